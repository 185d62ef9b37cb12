"""The parts of `tools/pretrain_mini.py`: corpora, targets, batches, network."""
