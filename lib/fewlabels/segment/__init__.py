"""Your own images: a folder in, masks out.

from fewlabels.segment import predict, segment

segment("folder")                                          # images/ and, for some, masks/ -> folder/segmented/
predict("folder/segmented/model", "others", "their masks")

folder      which files belong together
pictures    files of any kind read, masks written in the same
labels      what the values of masks mean
grid, task  what networks see
augment, learn, forest, plan, ensemble   what learns, for how long, what answers
command     all of it in turn
report      the page
"""

from fewlabels.segment.command import predict, segment

__all__ = ["predict", "segment"]
