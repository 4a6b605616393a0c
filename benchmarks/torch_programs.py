"""Training programs in plain PyTorch, from the formulas: SiCL's and CSSC's, fed from memory.

They are what the package is measured against (`step_speed.py --torch`, `beside_published.py`), and
share nothing with it but initial weights. Each sample is augmented by itself, in the training
process, as a published loader without workers does; images are resized ahead, as ours are.
"""

import math
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
import torch_models

sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests" / "verify"))
from make_golden import cosine_term, focal, neighbor_term, updated

_MEAN, _STD = (
    torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
)


def normalised(image: np.ndarray) -> torch.Tensor:
    """Maps uint8 (H, W, 3), or a grey (H, W), to (3, H, W) float32."""
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return (image.to(torch.float32) / 255 - _MEAN) / _STD


def augmented(image: np.ndarray, rng: np.random.Generator, config) -> torch.Tensor:
    """Flip, pad, crop, normalise, erase (section 1), of one image."""
    if rng.random() < config.flip:
        image = image[:, ::-1]
    height, width = image.shape[:2]
    if pad := config.pad:
        image = np.pad(image, ((pad, pad), (pad, pad)) + ((0, 0),) * (image.ndim - 2))
        top, left = rng.integers(0, 2 * pad + 1, 2)
        image = image[top : top + height, left : left + width]
    image = normalised(image)
    if rng.random() < config.erase:
        for _ in range(config.erase_tries):
            area = rng.uniform(*config.erase_area) * height * width
            aspect = rng.uniform(*config.erase_aspect)
            tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if tall < height and wide < width:
                top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
                fill = torch.tensor(config.erase_fill)[:, None, None]
                image[:, top : top + tall, left : left + wide] = fill
                break
    return image


def of_state(method, state, data) -> "Program":
    """The program that trains the same network from the same weights and labels.

    Args:
        method: Of ours: `sicl` or `cssc`.
        state: Its state, with pseudo-labels.
        data: The training split.
    """
    from sicl_jax.methods.sicl import weights as sicl_weights
    from sicl_jax.weights import torch_names

    model = method.model(state.weights)
    if method.name == "cssc":
        arrays = torch_names.collect(method.names(model))
        return Cssc(method.config, data.pixels, arrays, data.labels["identity"])
    names = {name: sicl_weights.names(getattr(model, name)) for name in ("rgb", "silhouette")}
    names["fusion"] = sicl_weights.head_names(model.fusion)
    arrays = {name: torch_names.collect(part) for name, part in names.items()}
    program = Sicl(method.config, data.pixels, arrays)
    clusters = state.memory.clusters
    labels = np.asarray(clusters.labels)[: len(data)]
    neighbors = int(clusters.num_neighbors)
    near, similarity = (
        np.asarray(a) for a in (clusters.neighbor_labels, clusters.neighbor_similarity)
    )
    program.regroup(labels, near[:, :neighbors], similarity[:, :neighbors])
    return program


def threads() -> int:
    """How many PyTorch uses."""
    return torch.get_num_threads()


class Program:
    """What both have in common.

    Attributes:
        config: The run's config.
        pixels: uint8 columns of the training split, (N, H, W, ...).
        rng: Draws the augmentation.
    """

    def __init__(self, config, pixels, seed):
        self.config, self.pixels, self.last = config, pixels, {}
        self.rng = np.random.default_rng(seed)
        torch.manual_seed(seed)

    def batch(self, column: str, rows: np.ndarray, *, ready: bool = False) -> torch.Tensor:
        """Augmented images of these rows; or, `ready`, what the last call gave."""
        if not ready:
            images = self.pixels[column]
            parts = [augmented(images[n], self.rng, self.config.augment) for n in rows]
            self.last[column] = torch.stack(parts)
        return self.last[column]

    def optimise(self, *modules: torch.nn.Module) -> None:
        """Makes the optimiser of all that is trained."""
        trained = [p for module in modules for p in module.parameters() if p.requires_grad]
        optimizer = self.config.optimizer
        self.optimizer = torch.optim.Adam(
            trained, lr=optimizer.learning_rate, weight_decay=optimizer.weight_decay
        )


class Sicl(Program):
    """SiCL (`docs/algorithm.md`).

    Args:
        config: Of the method `sicl`.
        pixels: Columns `image` and `mask`.
        weights: State dicts of `rgb`, `silhouette` and `fusion`.
        seed: Decides all draws.

    Attributes:
        models: By the same names.
        banks: Likewise, (N, D) unit rows.
        labels: (N,) pseudo-labels; with `near` (N, K) and `similarity` (N, K) set by `regroup`.
    """

    def __init__(self, config, pixels, weights, seed=0):
        super().__init__(config, pixels, seed)
        size = len(weights["rgb"]["feat_bn.weight"])
        self.models = {
            "rgb": torch_models.Encoder(config.model),
            "silhouette": torch_models.Encoder(config.model),
            "fusion": torch_models.Projection(2 * size, size),
        }
        for name, model in self.models.items():
            model.load_state_dict({n: torch.tensor(a) for n, a in weights[name].items()})
        rgb = self.features("rgb", pixels["image"])
        silhouette = self.features("silhouette", pixels["mask"])
        self.banks = {"rgb": rgb, "silhouette": silhouette, "fusion": rgb.clone()}
        # No loss reaches the silhouette's own projection: Adam passes over what has no gradient.
        self.optimise(*self.models.values())

    def features(self, stream: str, images: np.ndarray) -> torch.Tensor:
        """(N, D) features in evaluation mode."""
        model = self.models[stream].eval()
        with torch.no_grad():
            parts = [
                model(torch.stack([normalised(image) for image in images[start : start + 256]]))[0]
                for start in range(0, len(images), 256)
            ]
        return torch.cat(parts)

    def regroup(self, labels: np.ndarray, near: np.ndarray, similarity: np.ndarray) -> None:
        """Sets an epoch's pseudo-labels (N,) and its clusters' neighbours (C, K)."""
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self.counts = torch.bincount(self.labels).to(torch.float32)
        self.near = torch.tensor(near[labels], dtype=torch.int64)
        self.similarity = torch.tensor(similarity[labels], dtype=torch.float32)

    def probabilities(self, x: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
        """p_c(x) of section 3, from the similarities to all rows."""
        scores = x @ bank.T / self.config.memory.temperature
        sums = torch.zeros(len(x), len(self.counts)).index_add(1, self.labels, scores)
        scores = torch.exp(sums / self.counts)
        return scores / (1e-6 + scores.sum(1, keepdim=True))

    def step(self, rows: np.ndarray, *, ready: bool = False) -> dict[str, float]:
        """One optimiser step; the loss of each stream. `ready`: see `batch`."""
        images, masks = (self.batch(name, rows, ready=ready) for name in ("image", "mask"))
        for model in self.models.values():
            model.train()
        x, z = self.models["rgb"](images)
        m, _ = self.models["silhouette"](masks)
        u = self.models["fusion"](torch.cat([x, m], 1).detach())
        features = {"rgb": x, "silhouette": m, "fusion": u}
        rows = torch.as_tensor(rows, dtype=torch.int64)
        y = self.labels[rows]
        near, similarity = self.near[rows], self.similarity[rows]
        terms = {}
        for name, feature in features.items():
            p = self.probabilities(feature, self.banks[name])
            terms[name] = focal(p, y)
            if name != "fusion" and near.shape[1]:
                draws = torch.bernoulli(similarity.clamp(0, 1)).T
                terms[name] = terms[name] + neighbor_term(p, near, similarity, draws)
        bank = self.banks["silhouette"]
        own = torch.stack([bank[self.labels == label].mean(0) for label in y])
        terms["silhouette"] = terms["silhouette"] + cosine_term(own, z) + cosine_term(m, z)
        self.optimizer.zero_grad()
        sum(terms.values()).backward()
        self.optimizer.step()
        momentum = self.config.memory.momentum
        self.banks = {
            name: updated(bank, rows, features[name], momentum) for name, bank in self.banks.items()
        }
        return {name: term.item() for name, term in terms.items()}


class Cssc(Program):
    """CSSC (`docs/methods/cssc.md`).

    Args:
        config: Of the method `cssc`.
        pixels: Column `image`.
        weights: State dict.
        identities: (N,) of the training images.
        seed: Decides all draws.
    """

    def __init__(self, config, pixels, weights, identities, seed=0):
        super().__init__(config, pixels, seed)
        names, classes = np.unique(identities, return_inverse=True)
        self.classes = torch.tensor(classes)
        self.model = torch_models.ContentSalient(config.model, config.mining, len(names))
        self.model.load_state_dict({n: torch.tensor(a) for n, a in weights.items()})
        self.optimise(self.model)

    def step(self, rows: np.ndarray, *, ready: bool = False, triplet: bool = True) -> float:
        """One optimiser step; its loss. `ready`: see `batch`."""
        self.model.train()
        y = self.classes[torch.as_tensor(rows, dtype=torch.int64)]
        features, logits = self.model(self.batch("image", rows, ready=ready))
        smoothing, margin = self.config.loss.smoothing, self.config.loss.margin
        loss = sum(F.cross_entropy(part, y, label_smoothing=smoothing) for part in logits)
        if triplet:
            loss = loss + sum(hard_triplet(feature, y, margin) for feature in features)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def hard_triplet(f: torch.Tensor, y: torch.Tensor, margin: float) -> torch.Tensor:
    """Tri of section 3."""
    squares = (f * f).sum(1)
    distance = (squares[:, None] + squares - 2 * f @ f.T).clamp(min=1e-12).sqrt()
    same = y[:, None] == y
    positive = distance.masked_fill(~same, -math.inf).amax(1)
    negative = distance.masked_fill(same, math.inf).amin(1)
    return F.relu(positive - negative + margin).mean()
