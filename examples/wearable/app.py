"""The app of the README: it follows the active release. `python app.py replay.npz` (EDGESDK_STORE names the store)."""

import itertools
import sys

import numpy as np

import edgesdk

data = np.load(sys.argv[1], allow_pickle=False)
with edgesdk.Model("wearable", contract=1, wait_s=60) as model:
    for window in itertools.islice(data["x"], 200):
        answer = model.classify(window[None])  # float32 [1, 128, 6], in g and rad/s
        print(answer.label, f"{answer.confidence:.2f}", "from release", answer.release)
