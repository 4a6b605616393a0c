"""Writes golden files of other sizes with PyTorch and plain loops; run by hand.

    python tests/verify/make_golden.py FOLDER --seed 3 --stage_sizes 1,2 ...

They follow the formulas of `algorithm.md` and share nothing with the package, so that `sicl-jax
verify FOLDER` is checked beyond the one set of sizes of the published code's own files. There is
no `schp.npz` and no `sampler.npz` among them. `train_steps.npz` is computed and written in
float64, unless `--float32` asks for what PyTorch's float32 makes of it.
"""

import argparse
import pathlib

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

CMC_RANKS = 50


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def clouds(rng, count, size, people, spread):
    """Unit rows around as many centres as there are people, and whose row each is."""
    owner = rng.integers(0, people, count)
    rows = rng.normal(size=(people, size))[owner] + spread * rng.normal(size=(count, size))
    return unit(rows).astype(np.float32), owner


# ---- clustering ------------------------------------------------------------------------------


def k_reciprocal(near, k1, k2, weigh):
    """Vectors over the expanded neighbours of each row, averaged over its first k2."""

    def reciprocal(i, k):
        return {j for j in near[i, : k + 1] if i in near[j, : k + 1]}

    half = int(np.around(k1 / 2))
    encoding = np.zeros((len(near), len(near)))
    for i in range(len(near)):
        start = reciprocal(i, k1)
        members = set(start)
        for j in start:
            others = reciprocal(j, half)
            if len(others & start) > 2 / 3 * len(others):
                members |= others
        members = sorted(members)
        weights = weigh(i, members)
        encoding[i, members] = weights / weights.sum()
    return np.stack([encoding[near[i, :k2]].mean(axis=0) for i in range(len(near))])


def jaccard(features, k1, k2):
    gram = features.astype(np.float64) @ features.T.astype(np.float64)
    near = np.argsort(-gram, axis=1, kind="stable")[:, :k1]
    encoding = k_reciprocal(near, k1, k2, lambda i, members: np.exp(-(2 - 2 * gram[i, members])))
    overlap = np.stack([np.minimum(row, encoding).sum(axis=1) for row in encoding])
    return np.maximum(1 - overlap / (2 - overlap), 0)


def dbscan(distance, eps, min_samples):
    near = [np.flatnonzero(row <= eps) for row in distance]
    core = [len(members) >= min_samples for members in near]
    labels = np.full(len(distance), -1)
    cluster = 0
    for start in range(len(distance)):
        if labels[start] >= 0 or not core[start]:
            continue
        queue = [start]
        while queue:
            i = queue.pop()
            if labels[i] >= 0:
                continue
            labels[i] = cluster
            if core[i]:
                queue.extend(near[i])
        cluster += 1
    return labels


def own_clusters(labels):
    labels = labels.copy()
    lonely = labels < 0
    labels[lonely] = labels.max() + 1 + np.arange(lonely.sum())
    return np.unique(labels, return_inverse=True)[1]


def refinement(distance, labels, tight):
    count = len(labels)
    spread = np.array(
        [distance[labels == c][:, labels == c].mean() for c in range(max(labels) + 1)]
    )
    outside = np.zeros(count)
    for i in range(count):
        differ = (labels == labels[i]) != (tight == tight[i])
        if differ.any():
            outside[i] = distance[i, differ].sum() / differ.sum() ** 2
    score = np.array([outside[tight == tight[i]].sum() for i in range(count)])
    return score, spread


def clustering(rng, size, options):
    features, _ = clouds(rng, options.count, size, options.count // 12 + 1, options.spread)
    distance = jaccard(features, options.k1, options.k2)
    plain = dbscan(distance, options.eps, options.min_samples)
    tight = dbscan(distance, options.eps - options.eps_gap, options.min_samples)
    labels, tight_labels = own_clusters(plain), own_clusters(tight)
    score, spread = refinement(distance, labels, tight_labels)
    kept = score <= spread[labels]
    refined = own_clusters(np.where(kept, plain, -1))
    fusion = unit(features + 0.1 * rng.normal(size=features.shape)).astype(np.float32)
    prototypes = np.stack([fusion[refined == c].mean(axis=0) for c in range(refined.max() + 1)])
    result = {
        **{"features": features, "k1": options.k1, "k2": options.k2, "jaccard_distance": distance},
        **{"eps": options.eps, "eps_gap": options.eps_gap, "min_samples": options.min_samples},
        **{"dbscan_labels": plain, "dbscan_labels_tight": tight, "pseudo_labels": labels},
        **{"pseudo_labels_tight": tight_labels, "sample_tight_score": score},
        **{"cluster_score": spread, "refined_labels": refined, "fusion_features": fusion},
    }
    plain_products = prototypes @ prototypes.T
    for name, similarity in {
        "cosine": unit(prototypes) @ unit(prototypes).T,
        "released": plain_products / (prototypes**2).sum(),
    }.items():
        # The cluster itself first under the cosine; under the other wherever it comes.
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :8]
        result[f"neighbor_labels_{name}"] = order
        result[f"neighbor_similarity_{name}"] = np.take_along_axis(similarity, order, axis=1)
    return result


# ---- memory and losses -----------------------------------------------------------------------


def probabilities(x, bank, labels, temperature):
    means = torch.stack([bank[labels == c].mean(dim=0) for c in range(int(labels.max()) + 1)])
    scores = torch.exp(x @ means.T / temperature)
    return scores / (1e-6 + scores.sum(dim=1, keepdim=True)), means


def focal(p, labels):
    own = p[torch.arange(len(labels)), labels]
    return (-((1 - own) ** 4) * torch.log(own + 1e-6)).mean()


def neighbor_term(p, labels, similarity, draws):
    """The released weighting; (B, K) labels and similarities, (K, B) draws."""
    total = 0.0
    for k in range(labels.shape[1]):
        cost = -torch.log(p[torch.arange(len(p)), labels[:, k]] + 1e-6)
        total = total + cost.mean() * (similarity[:, k].clamp(0, 1) * draws[k]).mean()
    return total / (labels.shape[1] + 1)


def cosine_term(target, z):
    return -F.cosine_similarity(target.detach(), z, dim=1).mean()


def updated(bank, indexes, features, momentum):
    bank = bank.clone()
    for index, feature in zip(indexes.tolist(), features.detach(), strict=True):
        bank[index] = F.normalize(momentum * bank[index] + (1 - momentum) * feature, dim=0)
    return bank


def neighbors_of(rng, labels, columns):
    clusters = labels.max() + 1
    near = np.stack([rng.permutation(clusters)[:columns] for _ in labels])
    for row, own in zip(near, labels, strict=True):
        if own in row:
            row[np.flatnonzero(row == own)[0]] = row[0]
        row[0] = own
    return near, rng.uniform(-0.1, 1.1, near.shape).astype(np.float32)


def memory(rng, size, options):
    count, batch, k = options.count, options.batch, options.num_neighbors
    bank, _ = clouds(rng, count, size, 9, 0.7)
    labels = np.concatenate([np.arange(9), rng.integers(0, 9, count - 9)])
    indexes = rng.integers(0, count, batch)
    indexes[:3] = indexes[0]
    inputs, other = (clouds(rng, batch, size, 9, 0.7)[0] for _ in range(2))
    near, similarity = neighbors_of(rng, labels, k + 2)
    draws = rng.integers(0, 2, (k, batch)).astype(np.float32)

    t = {
        name: torch.tensor(value)
        for name, value in locals().items()
        if isinstance(value, np.ndarray)
    }
    x, z = t["inputs"].requires_grad_(), t["other"].requires_grad_()
    y = t["labels"][t["indexes"]]
    p, means = probabilities(x, t["bank"], t["labels"], options.temperature)
    rows, columns = t["indexes"], slice(1, k + 1)
    parts = {
        "prototype_loss": focal(p, y),
        "neighbor_loss": neighbor_term(
            p, t["near"][rows, columns], t["similarity"][rows, columns], t["draws"]
        ),
        "cross_prototype_loss": cosine_term(means[y], z),
        "cross_instance_loss": cosine_term(x, z),
    }
    modes = {0: list(parts)[:1], 1: list(parts), 2: list(parts)[:2]}
    result = {name: value.item() for name, value in parts.items()}
    for mode, names in modes.items():
        loss = sum(parts[name] for name in names)
        gradients = torch.autograd.grad(loss, (x, z), retain_graph=True, allow_unused=True)
        result[f"loss_mode{mode}"] = loss.item()
        result[f"grad_inputs_mode{mode}"] = gradients[0].numpy()
        if mode == 1:
            result["grad_other_mode1"] = gradients[1].numpy()
    after = updated(t["bank"], t["indexes"], x, options.momentum)
    return {
        **{"bank": bank, "labels": labels, "indexes": indexes, "inputs": inputs},
        **{"other_stream": other, "temperature": options.temperature},
        **{"momentum": options.momentum, "neighbor_labels": near, "num_neighbors": k},
        **{"neighbor_similarity": similarity, "bernoulli_draws": draws},
        **result,
        "features_after": after.numpy(),
    }


# ---- the model and its training --------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride != 1 or inputs != 4 * width:
            shortcut = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * width))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Head(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.full_connect = nn.Linear(inputs, outputs)
        self.full_bn = nn.BatchNorm1d(outputs)
        self.full_bn.bias.requires_grad_(False)
        nn.init.kaiming_normal_(self.full_connect.weight, mode="fan_out")
        nn.init.zeros_(self.full_connect.bias)

    def forward(self, x):
        return F.normalize(self.full_bn(self.full_connect(x)))


class Encoder(Head):
    def __init__(self, stage_sizes, width):
        size = 4 * width * 2 ** (len(stage_sizes) - 1)
        super().__init__(size, size)
        layers = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        inputs = width
        for stage, blocks in enumerate(stage_sizes):
            stride = 1 if stage in (0, len(stage_sizes) - 1) else 2
            stage_layers = []
            for index in range(blocks):
                stage_layers.append(Block(inputs, width * 2**stage, stride if index == 0 else 1))
                inputs = 4 * width * 2**stage
            layers.append(nn.Sequential(*stage_layers))
        self.base = nn.Sequential(*layers)
        self.feat_bn = nn.BatchNorm1d(size)
        self.feat_bn.bias.requires_grad_(False)

    def forward(self, images):
        pooled = self.base(images).mean((2, 3))
        return F.normalize(self.feat_bn(pooled)), super().forward(pooled)


def shake(module):
    """Lively scales and statistics, so that no difference hides behind ones and zeros."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.running_mean, 0, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)


def arrays(prefix, module):
    return {f"{prefix}{name}": value.numpy().copy() for name, value in module.state_dict().items()}


def train_steps(rng, _, options):
    dtype = np.float32 if options.float32 else np.float64
    torch.set_default_dtype(torch.float32 if options.float32 else torch.float64)
    batch, k = options.train_batch, options.train_neighbors
    models = {
        "rgb": Encoder(options.stage_sizes, options.width),
        "mask": Encoder(options.stage_sizes, options.width),
    }
    size = models["rgb"].feat_bn.num_features
    models["fusion"] = Head(2 * size, size)
    for model in models.values():
        shake(model)
    count, (height, width) = options.train_count, options.image_size
    images, masks = (torch.randn(count, 3, height, width) for _ in range(2))
    labels = torch.arange(count) % options.train_clusters
    near, similarity = neighbors_of(rng, labels.numpy(), k + 2)
    similarity = similarity.astype(dtype)
    result = {
        **{"images": images.numpy(), "masks": masks.numpy(), "labels": labels.numpy()},
        **{"neighbor_labels": near, "neighbor_similarity": similarity, "num_neighbors": k},
        **{"stage_sizes": np.array(options.stage_sizes), "width": options.width},
        **{"learning_rate": 3.5e-4, "weight_decay": 5e-4},
        **{"temperature": options.temperature, "momentum": options.momentum},
    }
    for name, model in models.items():
        result |= arrays(f"{name}_", model)
        model.eval()
    with torch.no_grad():
        features = {"rgb": models["rgb"](images)[0], "mask": models["mask"](masks)[0]}
    banks = {**features, "fusion": features["rgb"]}
    for name, rows in features.items():
        result |= {f"eval_{name}_features": rows.numpy(), f"bank_{name}_initial": rows.numpy()}

    trained = [p for model in models.values() for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=3.5e-4, weight_decay=5e-4)
    for model in models.values():
        model.train()
    steps = 3
    batches = np.stack([rng.choice(count, batch, replace=True) for _ in range(steps)])
    draws = rng.integers(0, 2, (steps, 2, k, batch)).astype(dtype)
    near, similarity = torch.tensor(near), torch.tensor(similarity)
    losses = np.zeros((steps, 3), dtype)
    for step, rows in enumerate(torch.tensor(batches)):
        x, z = models["rgb"](images[rows])
        m, m_projection = models["mask"](masks[rows])
        u = models["fusion"](torch.cat([x, m], 1).detach())
        terms = step_losses(x, z, m, u, rows, labels, banks, near, similarity, draws[step], options)
        optimizer.zero_grad()
        sum(terms).backward()
        if step == 0:
            outputs = {"rgb_feature": x, "rgb_projection": z, "mask_feature": m}
            outputs |= {"mask_projection": m_projection, "fusion_feature": u}
            result |= {f"step0_{name}": value.detach().numpy() for name, value in outputs.items()}
            for name, parameter in models["rgb"].named_parameters():
                gradient = (
                    parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
                )
                result[f"rgb_grad_{name}"] = gradient.numpy().copy()
        optimizer.step()
        new = {"rgb": x, "mask": m, "fusion": u}
        banks = {n: updated(bank, rows, new[n], options.momentum) for n, bank in banks.items()}
        losses[step] = [term.item() for term in terms]
    for name, model in models.items():
        result |= arrays(f"{name}_final_", model) | {f"bank_{name}_final": banks[name].numpy()}
    torch.set_default_dtype(torch.float32)
    return result | {"batches": batches, "bernoulli_draws": draws, "losses": losses}


def step_losses(x, z, m, u, rows, labels, banks, near, similarity, draws, options):
    """The losses of the RGB, the silhouette and the fusion stream."""
    y, columns = labels[rows], slice(1, draws.shape[1] + 1)
    draws = torch.tensor(draws)
    losses = []
    for name, feature, drawn in (("rgb", x, draws[0]), ("mask", m, draws[1]), ("fusion", u, None)):
        p, means = probabilities(feature, banks[name], labels, options.temperature)
        loss = focal(p, y)
        if drawn is not None:
            loss = loss + neighbor_term(p, near[rows, columns], similarity[rows, columns], drawn)
        if name == "mask":
            loss = loss + cosine_term(means[y], z) + cosine_term(m, z)
        losses.append(loss)
    return losses


def optimizer(rng, _, options):
    initial = rng.normal(size=(3, 4)).astype(np.float32)
    gradients = rng.normal(size=(2 * options.step_size + 1, 3, 4)).astype(np.float32)
    weights = nn.Parameter(torch.tensor(initial))
    adam = torch.optim.Adam([weights], lr=1e-2, weight_decay=5e-2)
    schedule = torch.optim.lr_scheduler.StepLR(adam, options.step_size, 0.3)
    trajectory = []
    for gradient in gradients:
        weights.grad = torch.tensor(gradient)
        adam.step()
        schedule.step()
        trajectory.append(weights.detach().numpy().copy())
    return {
        **{"initial": initial, "gradients": gradients, "trajectory": np.stack(trajectory)},
        **{"learning_rate": 1e-2, "weight_decay": 5e-2},
        **{"step_size": options.step_size, "gamma": 0.3},
    }


# ---- evaluation ------------------------------------------------------------------------------


def figures(distance, query, gallery, dropped):
    """CMC and mAP by sorting each query's gallery."""
    curves, precisions = [], []
    for i, row in enumerate(distance):
        order = np.argsort(row, kind="stable")
        order = order[~dropped[i, order]]
        hits = gallery["ids"][order] == query["ids"][i]
        if hits.any():
            curves.append(np.cumsum(hits) > 0)
            precisions.append((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())
    curves = [np.pad(c[:CMC_RANKS], (0, max(0, CMC_RANKS - len(c))), mode="edge") for c in curves]
    return np.mean(curves, axis=0), np.mean(precisions)


def rerank(features, queries, k1=20, k2=6, weight=0.3):
    features = features.astype(np.float64)
    squares = (features**2).sum(1)
    original = (squares[:, None] + squares - 2 * features @ features.T).clip(0) ** 2
    original = original / original.max(axis=1, keepdims=True)
    near = np.argsort(original, axis=1, kind="stable")
    encoding = k_reciprocal(near, k1, k2, lambda i, members: np.exp(-original[i, members]))
    overlap = np.stack(
        [np.minimum(row, encoding[queries:]).sum(axis=1) for row in encoding[:queries]]
    )
    return (1 - weight) * (1 - overlap / (2 - overlap)) + weight * original[:queries, queries:]


def evaluation(rng, size, options):
    people = 8
    sides = {}
    centres = rng.normal(size=(people, size))
    for side, count in (("query", options.queries), ("gallery", options.gallery)):
        ids = rng.integers(0, people, count)
        rows = unit(centres[ids] + 1.2 * rng.normal(size=(count, size))).astype(np.float32)
        sides[side] = {"features": rows, "ids": ids, "cameras": rng.integers(0, 3, count)}
        sides[side]["clothes"] = 2 * ids + rng.integers(0, 2, count)
    query, gallery = sides["query"], sides["gallery"]
    distance = ((query["features"][:, None] - gallery["features"]) ** 2).sum(-1)
    same = {name: query[name][:, None] == gallery[name] for name in ("ids", "cameras", "clothes")}
    changing = same["ids"] & (same["cameras"] | same["clothes"])
    dropped = {
        "sicl": changing,
        "standard": same["ids"] & same["cameras"],
        "cloth_changing": changing,
        "ltcc_cloth_changing": changing,
        "same_clothes": same["ids"] & (same["cameras"] | ~same["clothes"]),
        "all_gallery": np.zeros_like(changing),
    }
    result = {f"{side}_{name}": a for side, parts in sides.items() for name, a in parts.items()}
    for name, drop in dropped.items():
        result[f"{name}_cmc"], result[f"{name}_map"] = figures(distance, query, gallery, drop)
    points = np.concatenate([query["features"], gallery["features"]])
    return result | {"distance": distance, "reranked_distance": rerank(points, options.queries)}


def numbers(text):
    return tuple(int(part) for part in text.split(","))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    for name, value in {
        **{"seed": 1, "size": 24, "count": 150, "spread": 0.5, "k1": 12, "k2": 4, "eps": 0.55},
        **{"eps_gap": 0.03, "min_samples": 3, "batch": 10, "num_neighbors": 2, "temperature": 0.07},
        **{"momentum": 0.3, "width": 2, "train_count": 20, "train_batch": 6, "train_neighbors": 3},
        **{"train_clusters": 5, "step_size": 3, "queries": 15, "gallery": 70},
    }.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--stage_sizes", type=numbers, default=(2, 1, 1))
    parser.add_argument("--image_size", type=numbers, default=(48, 32))
    parser.add_argument("--float32", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    for make in (clustering, memory, train_steps, optimizer, evaluation):
        content = make(np.random.default_rng(options.seed), options.size, options)
        if make is not train_steps:
            content = {
                name: value.astype(np.float32)
                if getattr(value, "dtype", None) == np.float64
                else value
                for name, value in content.items()
            }
        np.savez_compressed(options.folder / f"{make.__name__}.npz", **content)


if __name__ == "__main__":
    main()
