"""The pieces of the lessons page: frame, predictions, and each lesson's pictures."""
