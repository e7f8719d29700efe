"""The picture that the references were made from, and the seeds of their random numbers."""

import zlib

import numpy as np


def picture(side=64):
    """An RGB picture ``(side, side, 3)`` of bytes: rings, a slope, a dark square and fine texture."""
    y, x = np.mgrid[0:side, 0:side] / side
    rings = 0.5 + 0.4 * np.sin(24 * np.hypot(x - 0.4, y - 0.6))
    texture = np.random.RandomState(7).uniform(-0.08, 0.08, (side, side, 3))
    channels = np.stack([rings, 0.2 + 0.7 * x, 0.9 - 0.6 * y * rings], axis=2) + texture
    channels[side // 8 : side // 3, side // 2 : side - side // 6] *= 0.15
    return np.uint8(np.clip(channels, 0, 1) * 255)


def seed_of(name, severity):
    return zlib.crc32(f"{name} {severity}".encode()) % 2**31
