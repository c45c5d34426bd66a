# SPDX-License-Identifier: Apache-2.0
"""Train img3d-small on the arrays that tools/small_training_set.py renders.

python tools/train_small.py --set small_set --copies copies_set --more round_set --folder small
python tools/train_small_corrections.py --set small_set --folder small
python tools/train_small.py --set small_set --copies copies_set --more round_set --folder small \\
    --renders 4 --peak 0.15 --first 8600 --steps 10200
python tools/train_small.py --set small_set --folder small --export      # the weights that img3d ships

Goes on from the last checkpoint, on the CPU or on CUDA; what a step draws depends on its number only. On a CPU one
thread is faster than several, as bfloat16 products outrun everything else there, and several threads wait for each
other where cores are shared.
"""

from __future__ import annotations

import argparse
import copy
import csv
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import yaml
from jaxtyping import Bool, Float, Int
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from small_renders import MIN_ERROR, camera_poses, errors, mirrored_poses, seen, view_scores
from small_training_set import TRUNCATION, VIEWS, Arrays
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, grid_sample, interpolate, normalize

from img3d_base.atomic_files import write_atomically
from img3d_generators.cameras import LGM_FOV, LGM_RADIUS
from img3d_generators.lgm import UNetConfig
from img3d_generators.networks.efficientnet_lite import folded
from img3d_generators.rows import SMALL_GENERATOR
from img3d_generators.small.columns import ColumnNetwork, bins_of, column_inputs, column_rays, points_in_columns
from img3d_generators.small.generator import FAR, KNOWN, SMALL_WEIGHTS, embedding, load_small
from img3d_generators.small.objects import Light
from img3d_generators.weights.checkpoints import PACKAGE
from img3d_generators.weights.checkpoints import checkpoint as described
from img3d_generators.weights.eight_bits import in_eight_bits
from img3d_generators.weights.state_dicts import read_state_dict, sha256_of
from img3d_kernels.poses import focal_length

BATCH = 16
ORIGINALS, COPIES, MORE = 9, 5, 2
"""Shares of the pictures: of the objects themselves, of their copies, of each further set."""
CELLS_PER_PICTURE = 128
POINTS_PER_PICTURE = 1024
COLOUR_WEIGHT, RENDER_WEIGHT = 1.0, 0.3
LIGHT_MEAN, LIGHT_SPREAD, MAX_STRENGTH = (0, 1, 0), (1, 0.6, 1), 0.7
"""Of the lights: mean and deviation of their directions before these are normalised; largest strength."""
SURFACE_TOLERANCE, SOFTNESS = 0.016, 0.06
"""Distance in front of the surface, in the object's frame, up to which a point is more inside than outside, and the
distance over which that changes from wholly to not at all."""
PEAK_LR, MATRIX_PEAK_LR, WARMUP = 1e-3, 0.02, 100
"""Learning rates of AdamW and of Muon, and the steps until they are reached."""
DECAY = 1.2
"""Exponent with which learning rates fall to 0."""
WEIGHT_DECAY = 0.02
TEXTURED, TEXTURES = 0.3, ((6, 0.25), (24, 0.2))
"""Share of the pictures that are textured; the textures' cells along a side, and the deviation of their logarithm."""
AVERAGING = 0.998
"""Share of the averaged weights, which are exported, that each step keeps."""
VALIDATION_OBJECTS = 48
SECONDS_PER_CHECKPOINT, STEPS_PER_REPORT = 120.0, 200
KNOWN_OBJECTS, KNOWN_VIEWS = 400, 2
"""Training objects that stand for all when pictures are compared with them, and the views of each."""
FAR_QUANTILE = 0.98
"""Share of the views of validation objects that do not count as unlike the training objects."""
SEED = 0
ENCODER = "encoder."
"""How the names of the encoder's weights start."""


@dataclass
class Batch:
    """Pictures and what is known about their objects, after augmentation."""

    picture: Float[Tensor, "B 4 S S"]
    """On white, and alpha."""
    placement: Float[Tensor, "B 3 4"]
    """From the object's frame to the world; possibly mirrored."""
    distances: Float[Tensor, "B 1 G G G"]
    """Into the empty space, in the object's frame."""
    points: Float[Tensor, "B P 3"]
    """On the surface, in the object's frame."""
    colours: Float[Tensor, "B P 3"]
    """Of the points, lit."""
    poses: Float[Tensor, "B V 3 4"]
    """Cameras of other views, in the world."""
    views: Float[Tensor, "B V 4 S S"]
    """The pictures there."""
    textured: Bool[Tensor, "B"]
    """Which pictures got a texture, which other views do not show."""

    @staticmethod
    def joined(parts: list[Batch]) -> Batch:
        """All pictures of several batches."""
        return Batch(*(torch.cat([getattr(part, each.name) for part in parts]) for each in fields(Batch)))


def batch_of(
    arrays: Arrays,
    objects: Int[np.ndarray, "B"],
    rng: np.random.Generator,
    device: torch.device,
    augment: bool = True,
    others: int = 0,
) -> Batch:
    """A random view of each of these objects. Augmentation: light, mirroring, exchanged and scaled colour channels, and
    a texture, as the objects have none.

    Args:
        arrays: Where the objects are from.
        objects: Their rows.
        rng: Source of randomness.
        device: Of the batch.
        augment: Vary the pictures.
        others: Number of other views.
    """
    count, available = len(objects), arrays.images.shape[1]
    views = rng.integers(available, size=count)[:, None]
    if others:
        # A generator of its own: what else is drawn does not depend on the number of views.
        steps = rng.spawn(1)[0].permuted(np.tile(np.arange(1, available), (count, 1)), axis=1)[:, :others]
        views = np.concatenate([views, (views + steps) % available], axis=1)
    raw = torch.from_numpy(arrays.images[objects[:, None], views]).to(device).float()
    placements = torch.from_numpy(arrays.placements[objects[:, None], views]).to(device)
    chosen = rng.integers(arrays.points.shape[1], size=(count, POINTS_PER_PICTURE))
    points, colours, normals = (
        torch.from_numpy(each[objects[:, None], chosen]).to(device).float()
        for each in (arrays.points, arrays.colours, arrays.normals)
    )
    distances = torch.from_numpy(arrays.distances[objects]).to(device).float()[:, None]

    light = rng.normal(LIGHT_MEAN, LIGHT_SPREAD, (count, 3))
    strength = rng.uniform(0, MAX_STRENGTH, count) if augment else np.full(count, 0.45)
    gains = rng.uniform(0.75, 1.25, (count, 3)) if augment else np.ones((count, 3))
    orders = np.stack([rng.permutation(3) if augment and rng.random() < 0.5 else np.arange(3) for _ in objects])
    mirrored = torch.from_numpy(rng.random(count) < 0.5 * augment).to(device)
    direction = normalize(torch.from_numpy(light).float().to(device), dim=1)
    dark, gain = (torch.from_numpy(each).float().to(device) for each in (strength, gains))
    order = torch.from_numpy(orders).to(device)

    def lit(rgb: Tensor, normal: Tensor) -> Tensor:
        shade = 1 - dark[:, None, None] * (0.5 - 0.5 * normal @ direction[:, :, None])
        return (rgb / 255).gather(2, order[:, None].expand_as(rgb)) * shade * gain[:, None]

    flat = raw.flatten(1, 3)
    alpha = flat[..., 3:4] / 255
    rgb = lit(flat[..., :3], (flat[..., 4:] - 128) / 127).minimum(alpha) + 1 - alpha
    pictures = torch.cat([rgb, alpha], dim=2).unflatten(1, raw.shape[1:4]).permute(0, 1, 4, 2, 3)
    pictures = torch.where(mirrored[:, None, None, None, None], pictures.flip(4), pictures)
    poses = camera_poses(placements)
    poses = torch.where(mirrored[:, None, None, None], mirrored_poses(poses), poses)
    picture, placement = pictures[:, 0], placements[:, 0]
    placement[:, 0] = torch.where(mirrored[:, None], -placement[:, 0], placement[:, 0])
    colours = lit(colours, normals / 127)
    textured = torch.zeros(count, dtype=torch.bool, device=device)
    if augment:
        texture, textured = (each.to(device) for each in _texture(count, picture.shape[-1], rng))
        rgb, alpha = picture[:, :3], picture[:, 3:]
        picture = torch.cat([(texture * (rgb - 1 + alpha)).minimum(alpha) + 1 - alpha, alpha], dim=1)
        places = _in_world(points, placement)
        spot = places[..., :2] / (LGM_RADIUS - places[..., 2:]) * places.new_tensor([1, -1]) * focal_length(LGM_FOV, 2)
        shown = grid_sample(texture, spot[:, None], padding_mode="border", align_corners=False)[:, :, 0]
        colours = colours * shown.transpose(1, 2)
    free = (distances - 127.5) / 127.5 * TRUNCATION
    return Batch(picture, placement, free, points, colours.clamp(0, 1), poses[:, 1:], pictures[:, 1:], textured)


def _in_world(points: Float[Tensor, "B P 3"], placement: Float[Tensor, "B 3 4"]) -> Float[Tensor, "B P 3"]:
    return points @ placement[:, :, :3].transpose(1, 2) + placement[:, None, :, 3]


def _texture(count: int, size: int, rng: np.random.Generator) -> tuple[Float[Tensor, "B 3 S S"], Bool[Tensor, "B"]]:
    """Factors of the colours, smooth at a coarse and a fine scale, the same through the whole depth, and which of the
    pictures have them."""
    noise = torch.zeros(count, 3, size, size)
    for cells, deviation in TEXTURES:
        coarse = torch.from_numpy(rng.normal(scale=deviation, size=(count, 3, cells, cells))).float()
        noise += interpolate(coarse, (size, size), mode="bilinear", align_corners=False)
    textured = torch.from_numpy(rng.random(count) < TEXTURED)
    return torch.where(textured[:, None, None, None], noise, 0).exp(), textured


@dataclass
class Source:
    """Objects to draw from."""

    arrays: Arrays
    objects: Int[np.ndarray, "N"]
    """The rows that are drawn."""
    share: float
    """Of the pictures, in proportion to the other sources' shares."""


def draw(sources: list[Source], rng: np.random.Generator, device: torch.device, others: int = 0) -> Batch:
    """Pictures of `BATCH` objects.

    Args:
        sources: Where the objects are from.
        rng: Source of randomness.
        device: Of the batch.
        others: Number of other views.
    """
    shares = np.array([source.share for source in sources], float)
    counts = rng.multinomial(BATCH, shares / shares.sum())
    return Batch.joined(
        [
            batch_of(source.arrays, rng.choice(source.objects, count), rng, device, others=others)
            for source, count in zip(sources, counts, strict=True)
            if count
        ]
    )


def features_of(network: ColumnNetwork, batch: Batch) -> Float[Tensor, "B N F"]:
    """What the network says of the cells of all pictures."""
    return network.features(batch.picture.to(network.head.weight.dtype))


def losses(
    network: ColumnNetwork,
    features: Float[Tensor, "B N F"],
    batch: Batch,
    rays: Float[Tensor, "N K 2"],
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of the occupancy, mean error of the colours, and the occupancy's intersection over union, in some
    of the cells that show the object."""
    device = batch.picture.device
    colours, shown = column_inputs(batch.picture)
    order = torch.from_numpy(rng.random(tuple(shown.shape[:2]))).to(device)
    cells = (order + ~shown.any(dim=2)).argsort(dim=1)[:, :CELLS_PER_PICTURE]
    which = torch.arange(len(cells), device=device)[:, None].expand_as(cells)
    known = shown[which, cells]
    logits, rgb = network.columns(features[which, cells].flatten(0, 1), colours[which, cells].flatten(0, 1))
    logits, rgb = logits.unflatten(0, cells.shape), rgb.unflatten(0, cells.shape)

    scale = batch.placement[:, :, 0].square().sum(dim=1)[:, None, None]
    places = points_in_columns(rays)[cells].flatten(1, 3) - batch.placement[:, None, :, 3]
    places = places @ (batch.placement[:, :, :3] / scale)
    free = grid_sample(batch.distances, places[:, None, None], padding_mode="border", align_corners=False)
    target = (0.5 + (SURFACE_TOLERANCE - free.view_as(logits)) / SOFTNESS).clamp(0, 1)
    occupancy = binary_cross_entropy_with_logits(logits[known], target[known])

    cell, column, bin_, inside = bins_of(_in_world(batch.points, batch.placement))
    position = torch.full(shown.shape[:2], -1, device=device).scatter_(
        1, cells, torch.arange(cells.shape[1], device=device).expand_as(cells)
    )
    place = position.gather(1, cell)
    used = inside & (place >= 0)
    used &= known[torch.arange(len(cells), device=device)[:, None], place.clamp(min=0), column]
    sample = torch.arange(len(cells), device=device)[:, None].expand_as(place)[used]
    colour = (rgb[sample, place[used], column[used], bin_[used]] - batch.colours[used]).abs().mean()

    with torch.no_grad():
        guess, truth = logits[known] > 0, target[known] > 0.5
        overlap = (guess & truth).sum() / (guess | truth).sum().clamp(min=1)
    return occupancy, colour, overlap


def render_loss(network: ColumnNetwork, features: Float[Tensor, "B N F"], batch: Batch) -> Tensor:
    """Mean logarithm of the error in the other views of pictures without a texture."""
    found = [
        (errors(seen(network, features[i], batch.picture[i], batch.poses[i]), batch.views[i]) + MIN_ERROR).log().mean()
        for i in (~batch.textured).nonzero()[:, 0].tolist()
    ]
    return torch.stack(found).mean() if found else 0 * network.correction.weight.sum().float()


def learning_rate(step: int, steps: int) -> float:
    """Share of the peak: a short warm-up, and nearly a line down to 0."""
    return min(1, (step + 1) / WARMUP) * (1 - step / steps) ** DECAY


def new_network() -> ColumnNetwork:
    """The network as the YAML file describes it, untrained."""
    return ColumnNetwork(UNetConfig(**described(SMALL_GENERATOR).architecture))


@dataclass
class Training:
    """All that a checkpoint holds: the weights in float32, a copy of them to compute with, their average.

    Muon (https://kellerjordan.github.io/posts/muon) trains the U-Net's inner matrices, AdamW the rest. With AdamW alone
    the same validation loss takes far more steps: see `compared` in img3d-small.yaml.
    """

    network: ColumnNetwork
    working: ColumnNetwork
    average: ColumnNetwork
    adamw: torch.optim.AdamW
    muon: torch.optim.Muon
    matrices: list[tuple[nn.Parameter, Tensor]]
    """Muon's parameters: those of the network, and the same memory as matrices, which it takes only."""
    step: int = 0
    seconds: float = 0.0

    @staticmethod
    def started(device: torch.device) -> Training:
        """At step 0."""
        torch.manual_seed(SEED)
        network = new_network().to(device)
        network.unet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        working, average = copy.deepcopy(network).to(torch.bfloat16), copy.deepcopy(network).requires_grad_(False)
        inner = [
            parameter
            for name, parameter in network.unet.named_parameters()
            if parameter.ndim > 1 and not name.startswith("conv_in.")
        ]
        others = [each for each in network.parameters() if not any(each is one for one in inner)]
        matrices = [(each, _matrix(each.detach())) for each in inner]
        return Training(
            network,
            working,
            average,
            torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY, fused=True),
            torch.optim.Muon([matrix for _, matrix in matrices], weight_decay=WEIGHT_DECAY, adjust_lr_fn="original"),
            matrices,
        )

    def update(self, loss: Tensor, rate: float) -> None:
        """One step of the optimisers.

        Args:
            loss: Of the working copy.
            rate: Share of the peak learning rates.
        """
        loss.backward()
        for parameter, copied in zip(self.network.parameters(), self.working.parameters(), strict=True):
            parameter.grad = None if copied.grad is None else copied.grad.float()
            copied.grad = None
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for parameter, matrix in self.matrices:
            assert parameter.grad is not None
            matrix.grad = _matrix(parameter.grad)
        for optimizer, peak in ((self.adamw, PEAK_LR), (self.muon, MATRIX_PEAK_LR)):
            for group in optimizer.param_groups:
                group["lr"] = rate * peak
            optimizer.step()
        self.step += 1
        keep = min(AVERAGING, self.step / (self.step + 10))
        with torch.no_grad():
            parameters: list[Tensor] = list(self.network.parameters())
            average: list[Tensor] = list(self.average.parameters())
            working: list[Tensor] = list(self.working.parameters())
            torch._foreach_lerp_(average, parameters, 1 - keep)
            torch._foreach_copy_(working, parameters)

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        with write_atomically(path) as temporary:
            torch.save(
                {
                    "network": self.network.state_dict(),
                    "average": self.average.state_dict(),
                    "adamw": self.adamw.state_dict(),
                    "muon": self.muon.state_dict(),
                    "step": self.step,
                    "seconds": self.seconds,
                },
                temporary,
            )

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take over weights before the first step."""
        for network in (self.network, self.working, self.average):
            network.load_state_dict(weights, strict=False)

    def load(self, path: Path, device: torch.device) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, map_location=device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.working.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.adamw.load_state_dict(state["adamw"])
        self.muon.load_state_dict(state["muon"])
        self.step, self.seconds = state["step"], state["seconds"]


def _matrix(weight: Tensor) -> Tensor:
    """A view of a convolution's weights or gradients, `[O, I, H, W]` with channels last, as a matrix `[O, H W I]`."""
    return weight.permute(0, *range(2, weight.ndim), 1).view(len(weight), -1)


def first_weights(shipped: bool, encoder: Path | None) -> dict[str, Tensor]:
    """What training starts from: the encoder's weights, and those of the rest if `shipped`.

    Args:
        shipped: Take all weights that come with img3d.
        encoder: A file of EfficientNet-Lite0 as it was published; without it, the encoder that comes with img3d.
    """
    weights = load_small().network.state_dict()
    if not shipped:
        weights = {name: value for name, value in weights.items() if name.startswith(ENCODER)}
    if encoder is not None:
        weights |= {ENCODER + name: value for name, value in folded(read_state_dict(encoder)).items()}
    return weights


def split(arrays: Arrays) -> tuple[Int[np.ndarray, "N"], Int[np.ndarray, "M"]]:
    """Objects to train on, and those to validate on."""
    mixed = np.random.default_rng(SEED + 1).permutation(len(arrays.done))
    training, validation = mixed[:-VALIDATION_OBJECTS], mixed[-VALIDATION_OBJECTS:]
    return training[arrays.done[training]], validation[arrays.done[validation]]


def copies_of(objects: Int[np.ndarray, "N"], count: int, folder: Path) -> tuple[Arrays, Int[np.ndarray, "M"]]:
    """The arrays of deformed copies, and which of them are of some objects.

    Args:
        objects: The originals.
        count: How many originals there are in all.
        folder: The copies' arrays.
    """
    copies = Arrays.of(folder)
    number = len(copies.done) // count
    chosen = (objects[:, None] * number + np.arange(number)).ravel()
    return copies, chosen[copies.done[chosen]]


@torch.no_grad()
def validate(network: ColumnNetwork, arrays: Arrays, objects: Int[np.ndarray, "M"], rays: Tensor) -> list[float]:
    """The three values of `losses` on the validation objects; PSNR and the silhouettes' intersection over union in all
    other views of them."""
    rng, found, scores = np.random.default_rng(SEED), [], []
    for i in range(0, len(objects), BATCH):
        batch = batch_of(arrays, objects[i : i + BATCH], rng, rays.device, False, arrays.images.shape[1] - 1)
        features = features_of(network, batch)
        found.append(torch.stack(losses(network, features, batch, rays, rng)))
        for one, picture, poses, views in zip(features, batch.picture, batch.poses, batch.views, strict=True):
            scores.append(view_scores(seen(network, one, picture, poses), views))
    return [*torch.stack(found).mean(dim=0).tolist(), *torch.stack(scores).mean(dim=0).tolist()]


@torch.no_grad()
def export(training: Training, arrays: Arrays, curve: Path) -> None:
    """Write the averaged weights, with the embeddings of the training objects, and describe them in the YAML file."""
    network, (objects, others) = training.average.cpu(), split(arrays)

    def embeddings(chosen: Int[np.ndarray, "N"]) -> Float[Tensor, "N V F"]:
        pictures = (arrays.pictures(index, Light(), VIEWS // KNOWN_VIEWS) for index in chosen)
        return torch.stack([embedding(network, each) for each in pictures])

    known = normalize(embeddings(objects[:KNOWN_OBJECTS]).mean(dim=1), dim=1)
    distances = torch.cdist(embeddings(others).flatten(0, 1), known).amin(dim=1)
    weights = in_eight_bits(network.state_dict())
    weights |= {KNOWN: known.half(), FAR: distances.quantile(FAR_QUANTILE).half()[None]}
    with write_atomically(SMALL_WEIGHTS) as temporary:
        save_file({name: value.contiguous() for name, value in weights.items()}, temporary)

    yaml_file = PACKAGE / "configs" / f"{SMALL_GENERATOR}.yaml"
    text = yaml_file.read_text("utf8")
    first_line, content = text.partition("\n")[0], yaml.safe_load(text)
    entry = content["files"][0]
    entry["size"], entry["sha256"] = SMALL_WEIGHTS.stat().st_size, sha256_of(SMALL_WEIGHTS)
    with curve.open() as file:
        rows = list(csv.reader(file))
    content["training"] |= {
        "seed": SEED,
        "steps": training.step,
        "pictures": training.step * BATCH,
        "hours": round(training.seconds / 3600, 2),
        "curve": [[float(value) for value in row] for row in rows[1:]],
    }
    dumped = yaml.safe_dump(content, sort_keys=False, width=118, default_flow_style=None, allow_unicode=True)
    with write_atomically(yaml_file) as temporary:
        temporary.write_text(f"{first_line}\n{dumped}", "utf8")


def main() -> None:
    """Train, report and checkpoint until `--steps` or `--minutes`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, required=True, help="folder of tools/small_training_set.py render")
    parser.add_argument("--more", type=Path, nargs="*", default=[], help="folders of more objects, all to train on")
    parser.add_argument("--copies", type=Path, help="folder of deformed copies of the objects of --set")
    parser.add_argument("--folder", type=Path, required=True, help="checkpoint and training curve")
    parser.add_argument("--shipped", action="store_true", help="start from the weights that come with img3d")
    parser.add_argument("--encoder", type=Path, help="published EfficientNet-Lite0 to start from, not img3d's copy")
    parser.add_argument("--peak", type=float, default=1.0, help="factor of the learning rates")
    parser.add_argument("--first", type=int, default=0, help="step at which their schedule starts")
    parser.add_argument(
        "--renders",
        type=int,
        default=0,
        help="also learn from renders of so many other views: for the end, as a step takes twice the time with 4",
    )
    parser.add_argument("--steps", type=int, default=8600, help="steps in all, those of earlier runs included")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop this run after that time")
    parser.add_argument("--threads", type=int, default=1, help="threads of the CPU")
    parser.add_argument(
        "--export",
        action="store_true",
        help="only write the checkpoint's weights into the package, and describe them in the YAML file",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint, curve = arguments.folder / "checkpoint.pt", arguments.folder / "curve.csv"
    arguments.folder.mkdir(parents=True, exist_ok=True)
    arrays = Arrays.of(arguments.set)
    objects, others = split(arrays)
    sources = [Source(arrays, objects, ORIGINALS)]
    sources += [Source(more, np.flatnonzero(more.done), MORE) for more in map(Arrays.of, arguments.more)]
    if arguments.copies:
        sources.append(Source(*copies_of(objects, len(arrays.done), arguments.copies), COPIES))
    rays = column_rays().to(device)
    training = Training.started(device)
    if checkpoint.exists():
        training.load(checkpoint, device)
    if training.step < arguments.first:
        parser.error(f"--first {arguments.first}: the checkpoint is of step {training.step}, before that")
    if not checkpoint.exists():
        training.start_from(first_weights(arguments.shipped, arguments.encoder))
        curve.write_text(
            "step,seconds,learning_rate,loss,colour,overlap,valid_loss,valid_colour,valid_overlap,valid_psnr,valid_iou\n"
        )
    if arguments.export:
        export(training, arrays, curve)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    started, before, saved = time.monotonic(), training.seconds, time.monotonic()
    with Progress(*columns) as progress:
        task = progress.add_task("Training", total=arguments.steps, completed=training.step)
        sums: list[Tensor] = []
        while training.step < arguments.steps and time.monotonic() - started < 60 * arguments.minutes:
            rng = np.random.default_rng([SEED, training.step])
            batch = draw(sources, rng, device, arguments.renders)
            features = features_of(training.working, batch)
            occupancy, colour, overlap = losses(training.working, features, batch, rays, rng)
            rate = arguments.peak * learning_rate(training.step - arguments.first, arguments.steps - arguments.first)
            loss = occupancy + COLOUR_WEIGHT * colour
            if arguments.renders:
                loss = loss + RENDER_WEIGHT * render_loss(training.working, features, batch)
            training.update(loss, rate)
            sums.append(torch.stack([occupancy.detach(), colour.detach(), overlap]))
            training.seconds = before + time.monotonic() - started
            progress.update(task, completed=training.step)
            if training.step % STEPS_PER_REPORT == 0 or training.step == arguments.steps:
                row = [*torch.stack(sums).mean(dim=0).tolist(), *validate(training.average, arrays, others, rays)]
                sums = []
                with curve.open("a", newline="") as file:
                    values = [
                        training.step,
                        f"{training.seconds:.0f}",
                        f"{PEAK_LR * rate:.2e}",
                        *(f"{each:.4f}" for each in row),
                    ]
                    csv.writer(file).writerow(values)
            if time.monotonic() - saved > SECONDS_PER_CHECKPOINT:
                training.save(checkpoint)
                saved = time.monotonic()
    training.save(checkpoint)


if __name__ == "__main__":
    main()
