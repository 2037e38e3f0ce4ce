"""What each package can do. Read in the code of the versions in `READ`; what could be tried was tried."""

import pandas as pd

from fewlabels.bench.timing import importable, version_of

COLUMNS = (
    "gradient to image",
    "exact adjoint",
    "gradient to field",
    "order 3 spline",
    "inverse, compose",
    "3-D",
    "batch in one call",
    "GPU",
    "several tensors at once",
)
# one letter a column: y yes, n no; then where it was read, and what yes or no hides
TABLE: dict[str, tuple[str | None, str, str, str]] = {
    "ours": (None, "yyyyyyyyy", "fewlabels/warps", ""),
    "elasticdeform": (
        "elasticdeform",
        "yynynynny",
        "deform_grid.py, torch.py",
        "its torch layer copies to the CPU and returns None for the field; a batch shares one field",
    ),
    "SciPy map_coordinates": ("scipy", "nnnynynnn", "ndimage/_interpolation.py", "one array a call"),
    "torch grid_sample": (
        "torch",
        "yyynnyyyn",
        "nn/functional.py, native GridSampler",
        "bicubic is Keys' kernel, no B-spline, and 2-D only",
    ),
    "torch-interpol grid_pull": (
        "interpol",
        "ynyynyyyn",
        "api.py, autograd.py",
        "the prefilter's backward is its forward: wrong near the border for dct1 (mirror); TorchScript",
    ),
    "MONAI Warp": (
        "monai",
        "yyynnyyyn",
        "networks/blocks/warp.py",
        "the wheel lacks the compiled grid_pull; DVF2DDF composes a velocity field with itself only",
    ),
    "MONAI Rand2D/3DElastic": (
        "monai",
        "yynynynyy",
        "transforms/spatial/array.py, dictionary.py",
        "order 3 through SciPy, or CuPy, then without gradient; several tensors through its dictionary form",
    ),
    "TorchIO RandomElasticDeformation": (
        "torchio",
        "nnnynynny",
        "transforms/augmentation/spatial/random_elastic_deformation.py",
        "through SimpleITK; its invert_transform negates the control points, which is no inverse; 2-D as one slice",
    ),
    "kornia RandomElasticTransform": (
        "kornia",
        "yyynnnyyy",
        "geometry/transform/elastic_transform.py, augmentation/_2d/geometric/elastic_transform.py",
        "the field is noise that it blurs; several tensors through AugmentationSequential",
    ),
    "torchvision v2.ElasticTransform": (
        "torchvision",
        "yyynnnnyy",
        "transforms/v2/functional/_geometry.py",
        "gradient to the image only with fill=None, its default fill=0 raises in the backward; one field for a batch",
    ),
    "batchgenerators SpatialTransform": (
        "batchgenerators",
        "nnnynynny",
        "augmentations/spatial_transformations.py, utils.py",
        "SciPy's map_coordinates in a loop over the batch; an image and its label map",
    ),
}
# the versions whose code was read
READ = {
    "elasticdeform": "0.5.1",
    "scipy": "1.17.1",
    "torch": "2.11.0",
    "interpol": "0.3.0",
    "monai": "1.6.1",
    "torchio": "1.2.1",
    "kornia": "0.9.0",
    "torchvision": "0.26.0",
    "batchgenerators": "0.25.5",
}


def table() -> pd.DataFrame:
    """One line a package, ours first: version here and version read, yes or no for each of COLUMNS, where, note."""
    rows = []
    for name, (package, letters, where, note) in TABLE.items():
        here = "" if package is None else version_of(package) if importable(package) else "not installed"
        answers = {c: {"y": "yes", "n": "no"}[letter] for c, letter in zip(COLUMNS, letters, strict=True)}
        rows.append(
            {"package": name, "version": here, "version read": READ.get(package or "", "")}
            | answers
            | {"read in": where, "note": note}
        )
    return pd.DataFrame(rows)
