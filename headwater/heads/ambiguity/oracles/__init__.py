"""Who can say what a target row is: a file of labels, a person at the terminal or in a browser, a service."""

from headwater.heads.ambiguity.oracles.array import ArrayOracle
from headwater.heads.ambiguity.oracles.choosing import open_oracle

__all__ = ["ArrayOracle", "open_oracle"]
