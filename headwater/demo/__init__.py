"""A whole run on data made here: real digits on drawn textures, features, heads and a report."""

from headwater.demo.run import DemoResult, Steps, run_demo

__all__ = ["DemoResult", "Steps", "run_demo"]
