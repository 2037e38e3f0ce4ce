from fewlabels.segment.guard import lost


def test_a_class_that_no_mask_has_is_named():
    classes = [{"name": name, "share": share} for name, share in (("rest", 0.9), ("lung", 0.1), ("rib", 0.01))]
    cases = [{"shares": [0.9, 0.1, 0.0]}, {"shares": [1.0, 0.0, 0.0]}]
    [warning] = lost(classes, cases)
    assert warning.startswith("rib was not found in any image")
    assert not lost(classes, [*cases, {"shares": [0.9, 0.0, 0.1]}])
    assert not lost([*classes[:2], {"name": "rib", "share": 0.0}], cases)
