"""A static hash table of integers as plain arrays, so that a graph needs no table resource."""

import numpy as np
import tensorflow as tf

MULTIPLIERS = np.random.default_rng(0).integers(2**62, size=64) | 1
BUCKET_SHIFT, PLACE_SHIFT = 40, 18  # where in a multiplied key its bucket and its place are read


class StaticTable:
    """From int64 keys to their positions in the array of keys, by hash and displacement.

    A key's bucket has a displacement that was chosen so that each key has a slot of its own. A
    lookup is three gathers, where binary search takes a dozen. Source: Belazzougui, Botelho and
    Dietzfelbinger, "Hash, displace, and compress" (2009).
    """

    def __init__(self, keys: np.ndarray):
        self.num_slots = 1 << max(4, (2 * len(keys)).bit_length())
        self.num_buckets = self.num_slots // 4
        for self.multiplier in MULTIPLIERS:
            buckets, places = self._hash(keys, np.right_shift, np.bitwise_and)
            if len(np.unique(buckets * self.num_slots + places)) == len(keys):
                break
        else:
            raise ValueError(f"No hash function separates the {len(keys)} keys; are they distinct?")
        self.displacements = np.zeros(self.num_buckets, np.int64)
        slots = self._place(buckets, places)
        self.keys = np.full(self.num_slots, -1, np.int64)
        self.keys[slots] = keys
        self.positions = np.zeros(self.num_slots, np.int32)
        self.positions[slots] = np.arange(len(keys))

    def lookup(self, keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Whether each key, at least 0, is there (bool), and its position (int32) if so."""
        buckets, places = self._hash(keys, tf.bitwise.right_shift, tf.bitwise.bitwise_and)
        places += tf.gather(tf.constant(self.displacements), buckets)
        slots = tf.bitwise.bitwise_and(places, self.num_slots - 1)
        found = tf.gather(tf.constant(self.keys), slots) == keys
        return found, tf.gather(tf.constant(self.positions), slots)

    def _hash(self, keys, right_shift, bitwise_and):
        """The bucket and the place of each key."""
        mixed = keys * self.multiplier
        return (
            bitwise_and(right_shift(mixed, np.int64(BUCKET_SHIFT)), np.int64(self.num_buckets - 1)),
            bitwise_and(right_shift(mixed, np.int64(PLACE_SHIFT)), np.int64(self.num_slots - 1)),
        )

    def _place(self, buckets: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Choose the displacements, full buckets first; returns the slot of each key."""
        random = np.random.default_rng(0)
        slots = np.zeros(len(places), np.int64)
        taken = np.zeros(self.num_slots, bool)
        order = np.argsort(buckets, kind="stable")
        filled, firsts, sizes = np.unique(buckets[order], return_index=True, return_counts=True)
        for size in range(max(sizes, default=0), 0, -1):
            waiting = np.flatnonzero(sizes == size)
            while len(waiting):
                members = order[firsts[waiting, None] + np.arange(size)]  # [buckets, size]
                chosen = random.integers(self.num_slots, size=len(waiting))
                wanted = (places[members] + chosen[:, None]) % self.num_slots
                owner = np.full(self.num_slots, -1)
                owner[wanted] = np.arange(len(waiting))[:, None]
                is_own = owner[wanted] == np.arange(len(waiting))[:, None]
                fits = (is_own & ~taken[wanted]).all(axis=1)
                self.displacements[filled[waiting[fits]]] = chosen[fits]
                slots[members[fits]] = wanted[fits]
                taken[wanted[fits]] = True
                waiting = waiting[~fits]
        return slots
