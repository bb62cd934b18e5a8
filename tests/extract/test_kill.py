"""A job that is killed again and again ends with the same bytes as one that never was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from headwater.store import open_store

KILLS = 50
SECONDS = 80.0

# Runs in a fresh process that imports everything once and forks for each run, so that a start costs
# milliseconds.
# It never computes or opens a store itself: threads and HDF5 state must not cross a fork.
LOOP = """
import json, os, random, signal, sys, time
import torch, h5py
from headwater.extract import backbones_torchvision, backbones_builtin, engine, extract_features, job, sources
images, folder, kills, budget = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
torch.set_num_threads(1)

def run(out):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            extract_features(images, out, backbone="pixels", rows_per_shard=4, batch_size=4, workers=2)
            code = 0
        finally:
            os._exit(code)
    return pid

def finish(out):
    _, status = os.waitpid(run(out), 0)
    assert os.waitstatus_to_exitcode(status) == 0, f"a run without interruption failed: {status}"

start = time.monotonic()
finish(os.path.join(folder, "whole"))
length = time.monotonic() - start
draw = random.Random(20240601)
killed, stores = 0, []
end = time.monotonic() + budget
# Three stores at a time, since a job mostly waits for the disk.
lanes = [{"out": None, "pid": None, "at": 0.0} for _ in range(3)]
while killed < kills and time.monotonic() < end:
    for lane in lanes:
        if lane["out"] is None:
            lane["out"] = os.path.join(folder, f"killed-{len(stores)}")
            stores.append(lane["out"])
        if lane["pid"] is None:
            lane["pid"], lane["at"] = run(lane["out"]), time.monotonic() + draw.uniform(0, length)
    lane = min(lanes, key=lambda lane: lane["at"])
    time.sleep(max(lane["at"] - time.monotonic(), 0))
    os.kill(lane["pid"], signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(lane["pid"], 0)[1])
    lane["pid"] = None
    if code == -signal.SIGKILL:
        killed += 1
    else:
        assert code == 0, f"a resumed run failed with {code}"
        lane["out"] = None
for lane in lanes:
    if lane["pid"] is not None:
        os.kill(lane["pid"], signal.SIGKILL)
        os.waitpid(lane["pid"], 0)
for out in stores:
    finish(out)
print(json.dumps({"killed": killed, "stores": stores, "length": length}))
"""


def picture_of(row: int) -> np.ndarray:
    """A picture that says which row it is: one flat colour."""
    return np.full((20, 24, 3), (row, 255 - row, (7 * row) % 256), dtype=np.uint8)


def make_images(folder: Path, rows: int, broken: set[int]) -> dict[str, int]:
    """Pictures in two class folders; returns each key's row number. Broken ones hold no picture."""
    numbers = {}
    for row in range(rows):
        key = f"{'left' if row % 3 else 'right'}/{row:03d}.png"
        file = folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        if row in broken:
            file.write_bytes(b"no picture")
        else:
            Image.fromarray(picture_of(row)).save(file)
        numbers[key] = row
    return numbers


def contents(store: Path) -> dict[str, bytes]:
    """Every file of a store but the run records, which tell times, and the locks."""
    return {
        file.name: file.read_bytes()
        for file in store.iterdir()
        if file.name != "runs.jsonl" and not file.name.endswith((".lock", ".holder"))
    }


def test_a_job_killed_fifty_times_leaves_the_same_bytes(tmp_path: Path) -> None:
    images = tmp_path / "images"
    broken = {5, 40}
    numbers = make_images(images, 60, broken)
    done = subprocess.run(
        [sys.executable, "-c", LOOP, str(images), str(tmp_path), str(KILLS), str(SECONDS)],
        capture_output=True,
        text=True,
        timeout=SECONDS + 60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["killed"] >= KILLS, result

    whole = contents(tmp_path / "whole")
    assert {"plan.json", "plan.keys", "index.h5", "annotations.h5"} <= set(whole)
    assert len([name for name in whole if name.startswith("shard-")]) == 15
    for store in result["stores"]:
        again = contents(Path(store))
        assert sorted(again) == sorted(whole)
        different = [name for name in whole if again[name] != whole[name]]
        assert not different, f"{store}: {different}"

    # The reference itself is right: each key once, and each row's features are its own picture's.
    store = open_store(tmp_path / "whole")
    assert sorted(store.keys) == sorted(numbers)
    assert {store.keys[row] for row, _ in store.errors} == {
        key for key, row in numbers.items() if row in broken
    }
    for place, key in enumerate(store.keys):
        if numbers[key] not in broken:
            colour = store.features[place : place + 1].reshape(3, -1)
            wanted = picture_of(numbers[key])[0, 0] / 255
            np.testing.assert_allclose(colour, np.repeat(wanted[:, None], colour.shape[1], 1), atol=1e-3)
    column = store.annotations["class"]
    names = column.categories
    assert names is not None
    assert [names[code] for code in column.values] == [key.split("/")[0] for key in store.keys]
