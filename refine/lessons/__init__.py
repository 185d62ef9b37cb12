"""Five lessons in numpy: toys whose truth is known, and shipped vectors of speech. No torch."""
