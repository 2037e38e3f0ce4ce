"""Learning to segment medical images from a handful of labels: five papers, one differentiable warp."""
