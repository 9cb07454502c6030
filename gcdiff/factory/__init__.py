"""The dataset factory: pairs drawn from text, judged, and written as data to train on.

captions: what is asked for.  judge: which pairs are kept.  place: the folder, and what is in it already.
panoptic: segments as COCO has them.  make: the rounds.  finish: tables and the report.
"""
