"""Our warps beside other packages, in one process: `python -m fewlabels.bench` (`make bench`).

timing      two ways to do the same work, in turn; first the guard that it is the same
peers       other packages' ways to warp
cases       what is timed
training    the share of a training step that its fields take
abilities   what each package can do, as read in its code
precision   a training step in bfloat16 beside float32, and with freed memory kept
volumes     what the convolution of one small volume takes
report      speed.csv, capabilities.csv, warps.md, figure1.png
"""
