"""Inputs: example inputs, and calibration data of audio, images and text as batches."""
