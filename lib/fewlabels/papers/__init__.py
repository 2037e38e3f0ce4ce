"""The papers, a folder each: everything that belongs to one paper alone, but for its methods and data.

    published.yaml   what the paper printed: its numbers and its claims; which rows these compare with, and what such
                     rows must reach before anything is judged (`scores.health`)
    claims.py        `judge`: the verdicts on these claims
    <any name>.py    an experiment wherever a line says `NAME = "..."`: see `engine.protocols.Experiment`

Nothing lists them: `engine.experiments` finds them here, and in the folders that FEWLABELS_PAPERS names.
"""
