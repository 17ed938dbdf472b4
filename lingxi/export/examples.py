"""Varied inputs to verify artifacts with, where the user gives none of their own."""

import itertools

import numpy as np

TEXTS = [
    "what a lovely stream",
    "The sound is out of sync again, please fix it.",
    "Where did you buy that keyboard?",
    "FREE followers!!! click the link in my bio",
    "I have waited three weeks for my parcel and nobody answers the phone.",
    "ok",
    "",
    "This is neither good nor bad, it just exists.",
    "Could you explain the second step once more, a little slower?",
    "Best. Update. Ever.",
    "The film starts slowly, but its last half hour is among the finest I have seen this year.",
    "refund pls",
    "My card was charged twice for the same order on 12/03/2024 (order #48-1177).",
    "lol that jump scare got me 😂😂",
    "Thanks for the quick reply, the replacement arrived today and works perfectly!",
    "Is there a vegetarian option, and does it contain nuts?",
    "I can't log in: it says 'invalid token' even after resetting my password.",
    "Worst customer service in the whole city. Never again.",
    "Der Service war ausgezeichnet, aber das Essen war leider kalt.",
    "这家店的外卖送得很快，味道也不错。",
    "Café crème à l'École: naïve, façade, Ünbelievable.",
    "Доставка опоздала на два часа.",
    "https://example.com/a?b=c&d=1 have you read this?",
    'she said "it\'s fine" and left (nobody believed her)',
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "Two adults, one child, arriving on Friday evening and leaving on Sunday: do you have a room "
    "with a view of the lake, and is breakfast included in the price that your site shows?",
    "0.5 mm, 3/4 inch, 20 °C, $19.99, 50 %",
    "THIS APP KEEPS CRASHING ON MY PHONE!!!!!!",
    "   spaces   around\tand\nbetween   ",
    "I didn't expect to like it, but I couldn't put it down.",
    "When does the next episode come out?",
    "The instructions are clear, the parts fit, and it took me less than an hour.",
    "🐱🐶🦊",
    "According to the report, revenue fell by 4 % in the third quarter while costs rose sharply.",
    "please please play the acoustic version next",
    "It broke after two days. Two. Days.",
    "Nobody knows why the lights in the old lighthouse came on last night.",
    "Congratulations, you have been selected to receive a prize, reply with your details now",
    "He plays the violin as if it were the easiest thing in the world.",
    "Not what was pictured; colour is off and the zip is stuck.",
]

PAIRS = list(itertools.pairwise(TEXTS))


def pictures(sizes=((240, 320), (120, 160), (200, 152), (96, 248))):
    """Pairs of views of drawn pictures of these heights and widths, uint8 `[height, width, 1]`."""
    from lingxi.images import textures, views  # in TensorFlow, which an artifact may do without

    pairs = []
    for seed, (picture, size) in enumerate(zip(textures(len(sizes)), sizes, strict=True)):
        (inputs, _) = views(picture, [seed, 0], *size, strength=0.5)
        sides = (inputs[name].numpy() for name in ("image_a", "image_b"))
        pairs.append(tuple(np.round(255 * side).astype("uint8") for side in sides))
    return pairs
