"""At full scale sweep files train and draw; their curves are to be read against those of the paper."""

from pathlib import Path

from sgdlit.papers.paper import Evidence, Workshop


def drawn_by_sweeps(workshop: Workshop, *files: str) -> Evidence:
    """Run sweeps of images, with a note where each left its table; only a note without the data sets.

    Args:
        workshop: whose data folder holds the images.
        files: below ``configs/sweeps/``.
    """
    if workshop.data is None:
        return Evidence(notes=["left out at full scale: no data folder (--data or SGDLIT_DATA)"])
    root = ["--data.root", str(workshop.data)]
    stores = [workshop.sweep(Path(file).stem, f"sweeps/{file}", *root) for file in files]
    return Evidence(
        notes=[f"table and figures in {store}: to be compared with the paper's" for store in stores]
    )
