"""From a folder of person crops to search results, step by step.

    python examples/search_own_crops.py --crops CROPS --masks MASKS --query CROP_OR_FOLDER

Cells start with `# %%`: editors run them one by one, like a notebook. Without --crops, people are
drawn by code and a very small network is trained for a minute, so that the script runs anywhere.

CROPS holds JPEG or PNG crops of persons in any folders; nothing needs to know who they are. MASKS
holds a silhouette for each, under the same path as `.png` (`sicl-jax masks` makes them).
"""

# %% What goes where
import argparse
import pathlib

import numpy as np
from PIL import Image

import sicl_jax
from sicl_jax import config as configs
from sicl_jax.data.dataset import Split, load_dataset
from sicl_jax.data.pixels import Form
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.report.pages import search_pages
from sicl_jax.report.run_report import run_report
from sicl_jax.retrieval.build import add_folder
from sicl_jax.retrieval.index import GalleryIndex
from sicl_jax.retrieval.searching import search
from sicl_jax.training import loop

parser = argparse.ArgumentParser(description="From a folder of person crops to search results.")
parser.add_argument("--crops", type=pathlib.Path, help="Your crops.  [default: drawn people]")
parser.add_argument("--masks", type=pathlib.Path, help="Their silhouettes.  [default: none]")
parser.add_argument("--query", type=pathlib.Path, help="Who is looked for.  [default: all crops]")
parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/own_crops"))
arguments = parser.parse_args()
out = arguments.out


# %% The crops: your own, or drawn ones written as if they were
def write_crops(split: Split, images: pathlib.Path, masks: pathlib.Path) -> None:
    """Writes a split's images and masks, a folder for each person."""
    for row, person in enumerate(split.labels["identity"]):
        silhouette = np.where(split.pixels["mask"][row] > 127, np.uint8(255), np.uint8(0))
        for folder, picture in ((images, split.pixels["image"][row]), (masks, silhouette)):
            path = folder / str(person) / f"{row:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)


if arguments.crops is not None:
    crops, masks, gallery = arguments.crops, arguments.masks, arguments.crops
    query = arguments.query or crops
    changes = []
else:
    prepare(Request("synthetic_people/tiny", out / "drawn"))
    forms = {"image": Form((128, 64)), "mask": Form((128, 64), mode="silhouette")}
    drawn = load_dataset("synthetic_people/tiny", out / "drawn", forms=forms)
    crops, masks, gallery, query = (out / name for name in ("crops", "masks", "gallery", "query"))
    write_crops(drawn.split("train"), crops, masks)
    # People whom training never sees: a gallery, and the same people in other clothes.
    write_crops(drawn.split("gallery"), gallery, out / "unused")
    write_crops(drawn.split("query_changed"), query, out / "unused")
    small = {
        "data.image_size": (64, 32), "augment.pad": 3, "clustering.k1": 8, "compat": "paper",
        "model.block": "basic", "model.stage_sizes": (1, 1, 1), "model.width": 8,
        "model.pretrained": "", "optimizer.learning_rate": 2e-3, "epochs": 2, "steps_per_epoch": 6,
    }  # fmt: skip
    changes = [f"--config.{name}={value}" for name, value in small.items()]

# %% Prepare: every file is checked, then packaged with its mask
prepare(Request("person_folder", out / "data", raw=crops, masks=masks))

# %% Train, without labels; run again to go on where it stopped
changes += [f"--config.data.dir={out / 'data'}", f"--config.silhouettes={masks is not None}"]
config = configs.load("sicl_person_folder", changes)
loop.train(config, out / "run")

# %% Features of any images: unit rows, so that the scalar product is the cosine similarity
model = sicl_jax.load(out / "run")
some = [path for path in sorted(query.rglob("*")) if path.suffix in (".png", ".jpg")][:2]
features = model.embed(some or query)
print(f"{len(features)} features of {features.shape[1]} dimensions")

# %% An index of the gallery on disk; run again, it takes in what is new
changed = add_folder(model, gallery, out / "index")
print(f"index: {changed.added} images added, {changed.kept} were there")

# %% Search it, and write a page to look at
index = GalleryIndex.open(out / "index")
found = search(index, model, query, top=10)
for result in found[:3]:
    best = result.hits[0]
    print(f"{result.query}: {best.path} ({best.similarity:.3f})")
by_folder = arguments.crops is None
for page, html in search_pages(
    found, f"{len(index)} images", out / "search.html", by_folder=by_folder
):
    page.write_text(html)

# %% How the training went
(out / "report.html").write_text(run_report(out / "run"))
print(f"look at {out / 'search.html'} and {out / 'report.html'}")
