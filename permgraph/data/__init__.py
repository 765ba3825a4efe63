"""Calibration data: audio, images and text as batches."""
