"""What comes with a vector: typed fields, filters over them as bitmaps, words and their ranks."""
