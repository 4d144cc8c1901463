"""Channels that are really removed: a smaller network of the same kind."""

from keras_squeeze.shrinking.channel_removal import shrink
from keras_squeeze.shrinking.choosing import choose_channels
from keras_squeeze.shrinking.macs import count_macs
from keras_squeeze.shrinking.masking import mask_channels

__all__ = ["choose_channels", "count_macs", "mask_channels", "shrink"]
