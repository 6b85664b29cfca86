"""Export a checkpoint: as a folder that timm loads and the Hugging Face hub takes, as ONNX, or by torch.export.

Whatever is written is read back and compared with the checkpoint on real images; where its outputs differ, nothing is
left. The folder gets a model card with what is known of the network.
"""

import argparse
import logging
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from stages.errors import UserError, first_line, run_cli
from stages.exporting.card import model_card
from stages.exporting.check import CHECKED, TOLERANCE, check_format, reference, sample_images
from stages.exporting.description import CARD, FILES, RECORD, Exported
from stages.exporting.evidence import find_evidence
from stages.exporting.formats import FORMATS, OPSET, check_available
from stages.exporting.predictors import advice_on_missing, checked_name
from stages.files import atomic_directory, significant, write_json, write_text
from stages.hashing import hash_file
from stages.models.checkpoint import Checkpoint, load_checkpoint


def main() -> None:
    """Export a checkpoint in the formats that the command names."""
    parser = argparse.ArgumentParser(prog="python -m stages.export", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--checkpoint", required=True, metavar="FILE", help="such as models/differential/seed-11.safetensors"
    )
    parser.add_argument(
        "--format", nargs="+", choices=FORMATS, default=["timm"], help="one or several, into the same folder; timm"
    )
    parser.add_argument(
        "--out", default="export", metavar="DIR", help="the folder, which an export may replace; export"
    )
    options = parser.parse_args()

    out, path = checked_folder(options.out), checked_file(options.checkpoint)
    checkpoint = load_checkpoint(path)
    formats = [name for name in FORMATS if name in options.format]
    for name in formats:
        check_available(name, checkpoint.description.library, checkpoint.description.name)
    differences = export(checkpoint, path, formats, out)
    for name, difference in differences.items():
        print(f"{name}: logits of {CHECKED} images within {difference:.1g} of the largest (allowed: {TOLERANCE:g})")
    print(f"{options.out}/ holds {', '.join(sorted(file.name for file in out.iterdir()))}")


def checked_folder(given: str) -> Path:
    """Return where the export goes.

    Raises:
        UserError: something else than an export lies there.
    """
    out = Path(given).absolute()
    if not given or out == Path.cwd():
        raise UserError("--out: names the folder that you stand in: give one of its own, such as export")
    if not out.exists():
        return out
    others = sorted(file.name for file in out.iterdir() if file.name not in FILES) if out.is_dir() else [out.name]
    if others or (any(out.iterdir()) and not (out / RECORD).is_file()):
        what = f"holds {others[0]}, which" if others and out.is_dir() else "is there, and"
        raise UserError(f"--out: {given} {what} no export wrote: give another folder, or remove this one")
    return out


def checked_file(given: str) -> Path:
    """Return the checkpoint's path.

    Raises:
        UserError: it is no file, or missing.
    """
    if not given:
        raise UserError("--checkpoint: the name is empty: give a file, such as models/differential/seed-11.safetensors")
    if Path(given).is_dir():
        raise UserError(f"--checkpoint: {given} is a folder: give one of its files, for an export is of one network")
    if not Path(given).exists():
        raise UserError(f"--checkpoint: {given} is missing: {advice_on_missing(Path(given))}")
    return checked_name(Path(given))


def export(checkpoint: Checkpoint, path: Path, formats: Sequence[str], out: Path) -> dict[str, float]:
    """Write a checkpoint in some formats, whole or not at all, and return how far each is from it.

    Raises:
        UserError: the network cannot be exported, or its export differs.
    """
    wanted = checkpoint.description
    exported = Exported(**wanted.model_dump(exclude={"layer_groups"}), checkpoint=hash_file(path))
    images = sample_images()
    pixels, expected = reference(checkpoint.network, exported, images)
    differences = {}
    with atomic_directory(out) as folder:
        for name in formats:
            write(name, checkpoint, exported, folder)
            differences[name] = check_format(name, exported, folder, images, pixels, expected)
        record = {
            "checkpoint": exported.checkpoint,
            "images": CHECKED,
            "tolerance": TOLERANCE,
            "differences": differences,
            "onnx_opset": OPSET if "onnx" in formats else None,
            "torch": version("torch"),
            "timm": version("timm"),
        }
        write_json(folder / RECORD, {}, exact=significant(record))
        write_text(folder / CARD, model_card(exported, path, formats, find_evidence(path)))
    return differences


def write(name: str, checkpoint: Checkpoint, exported: Exported, folder: Path) -> None:
    """Write one format.

    Raises:
        UserError: the format does not have what the network does.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what torch's own exporter does
            FORMATS[name].write(checkpoint.network, exported, folder)
    except OSError:
        raise
    except Exception as error:  # exporters fail in many ways at what they do not know
        raise UserError(
            f"--format {name}: {exported.name} cannot be exported so ({first_line(error)}): choose another format"
        ) from None


if __name__ == "__main__":
    run_cli(main)
