# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
UCF-101 as it is published: a folder of class folders with `.avi` files, and `ucfTrainTestlist/` with three pairs of lists.

Captions follow the one example of the VideoAR paper, "Generate a video of a man applying eyeliner": *Generate a video of*,
then what the class name says. The phrases for the 101 classes are this project's; a folder of another name is read as words.
"""

import re

import fsspec

from .manifest import MediaTable, join_path, make_media_table


UCF101_PHRASES = {
    "ApplyEyeMakeup": "a person applying eye makeup",
    "ApplyLipstick": "a person applying lipstick",
    "Archery": "a person practicing archery",
    "BabyCrawling": "a baby crawling",
    "BalanceBeam": "a gymnast on a balance beam",
    "BandMarching": "a band marching",
    "BaseballPitch": "a person pitching a baseball",
    "Basketball": "a person playing basketball",
    "BasketballDunk": "a person dunking a basketball",
    "BenchPress": "a person doing a bench press",
    "Biking": "a person biking",
    "Billiards": "a person playing billiards",
    "BlowDryHair": "a person blow-drying hair",
    "BlowingCandles": "a person blowing out candles",
    "BodyWeightSquats": "a person doing body weight squats",
    "Bowling": "a person bowling",
    "BoxingPunchingBag": "a person boxing a punching bag",
    "BoxingSpeedBag": "a person boxing a speed bag",
    "BreastStroke": "a person swimming breaststroke",
    "BrushingTeeth": "a person brushing teeth",
    "CleanAndJerk": "a person doing a clean and jerk",
    "CliffDiving": "a person diving from a cliff",
    "CricketBowling": "a person bowling in cricket",
    "CricketShot": "a person playing a cricket shot",
    "CuttingInKitchen": "a person cutting food in a kitchen",
    "Diving": "a person diving into water",
    "Drumming": "a person drumming",
    "Fencing": "people fencing",
    "FieldHockeyPenalty": "a field hockey penalty",
    "FloorGymnastics": "a person doing floor gymnastics",
    "FrisbeeCatch": "a person catching a frisbee",
    "FrontCrawl": "a person swimming front crawl",
    "GolfSwing": "a person swinging a golf club",
    "Haircut": "a person getting a haircut",
    "HammerThrow": "a person throwing a hammer",
    "Hammering": "a person hammering",
    "HandstandPushups": "a person doing handstand push-ups",
    "HandstandWalking": "a person walking on the hands",
    "HeadMassage": "a person getting a head massage",
    "HighJump": "a person doing a high jump",
    "HorseRace": "a horse race",
    "HorseRiding": "a person riding a horse",
    "HulaHoop": "a person spinning a hula hoop",
    "IceDancing": "people ice dancing",
    "JavelinThrow": "a person throwing a javelin",
    "JugglingBalls": "a person juggling balls",
    "JumpRope": "a person jumping rope",
    "JumpingJack": "a person doing jumping jacks",
    "Kayaking": "a person kayaking",
    "Knitting": "a person knitting",
    "LongJump": "a person doing a long jump",
    "Lunges": "a person doing lunges",
    "MilitaryParade": "a military parade",
    "Mixing": "a person mixing ingredients in a bowl",
    "MoppingFloor": "a person mopping a floor",
    "Nunchucks": "a person swinging nunchucks",
    "ParallelBars": "a gymnast on parallel bars",
    "PizzaTossing": "a person tossing pizza dough",
    "PlayingCello": "a person playing the cello",
    "PlayingDaf": "a person playing the daf",
    "PlayingDhol": "a person playing the dhol",
    "PlayingFlute": "a person playing the flute",
    "PlayingGuitar": "a person playing the guitar",
    "PlayingPiano": "a person playing the piano",
    "PlayingSitar": "a person playing the sitar",
    "PlayingTabla": "a person playing the tabla",
    "PlayingViolin": "a person playing the violin",
    "PoleVault": "a person pole vaulting",
    "PommelHorse": "a gymnast on a pommel horse",
    "PullUps": "a person doing pull-ups",
    "Punch": "people punching in a boxing match",
    "PushUps": "a person doing push-ups",
    "Rafting": "people rafting",
    "RockClimbingIndoor": "a person climbing an indoor wall",
    "RopeClimbing": "a person climbing a rope",
    "Rowing": "people rowing",
    "SalsaSpin": "people spinning in a salsa dance",
    "ShavingBeard": "a man shaving his beard",
    "Shotput": "a person putting the shot",
    "SkateBoarding": "a person skateboarding",
    "Skiing": "a person skiing",
    "Skijet": "a person riding a jet ski",
    "SkyDiving": "people skydiving",
    "SoccerJuggling": "a person juggling a soccer ball",
    "SoccerPenalty": "a person taking a soccer penalty",
    "StillRings": "a gymnast on still rings",
    "SumoWrestling": "people sumo wrestling",
    "Surfing": "a person surfing",
    "Swing": "a child on a swing",
    "TableTennisShot": "a person playing a table tennis shot",
    "TaiChi": "a person practicing tai chi",
    "TennisSwing": "a person swinging a tennis racket",
    "ThrowDiscus": "a person throwing a discus",
    "TrampolineJumping": "a person jumping on a trampoline",
    "Typing": "a person typing on a keyboard",
    "UnevenBars": "a gymnast on uneven bars",
    "VolleyballSpiking": "a person spiking a volleyball",
    "WalkingWithDog": "a person walking a dog",
    "WallPushups": "a person doing wall push-ups",
    "WritingOnBoard": "a person writing on a board",
    "YoYo": "a person playing with a yo-yo",
}
UCF101_LISTS_FOLDER = "ucfTrainTestlist"
UCF101_VIDEO_FOLDER = "UCF-101"
_LIST_NAMES = {"train": "trainlist", "validation": "testlist", "test": "testlist"}


def ucf101_caption(class_name: str) -> str:
    """
    The caption of a class: `"Generate a video of a person applying eye makeup"` for `"ApplyEyeMakeup"`. A name that is not one
    of the 101 is split at its capitals: `"Generate a video of feeding cats"` for `"FeedingCats"`.
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", class_name).lower()
    return f"Generate a video of {UCF101_PHRASES.get(class_name, words)}"


def read_ucf101(root: str, split: str = "train", fold: int = 1) -> MediaTable:
    """
    Reads a list of UCF-101.

    Args:
        root (`str`):
            Path or URL of a folder with `ucfTrainTestlist/`, and with the class folders either in it or in `UCF-101/`.
        split (`str`, defaults to `"train"`): `"train"` reads `trainlist`, `"validation"` and `"test"` read `testlist`.
        fold (`int`, defaults to 1): Which of the three published pairs of lists.

    Returns:
        [`MediaTable`]: In the order of the list. A file that does not exist is found out when it is read.

    Raises:
        `ValueError`: The list is missing or empty.
    """
    file_system, path = fsspec.core.url_to_fs(root)
    list_path = f"{path.rstrip('/')}/{UCF101_LISTS_FOLDER}/{_LIST_NAMES[split]}{fold:02d}.txt"
    if not file_system.isfile(list_path):
        raise ValueError(f"UCF-101 at {root!r} has no {list_path!r}: unpack the published lists there.")
    with file_system.open(list_path, "rt") as file:
        # A line of a training list ends in the class index, one of a test list does not: "Archery/v_Archery_g08_c01.avi 3".
        names = [line.split()[0] for line in file if line.strip()]
    if not names:
        raise ValueError(f"The list {list_path!r} of UCF-101 is empty.")
    has_video_folder = file_system.isdir(f"{path.rstrip('/')}/{UCF101_VIDEO_FOLDER}")
    folder = join_path(root, UCF101_VIDEO_FOLDER) if has_video_folder else root
    return make_media_table(
        [join_path(folder, name) for name in names], [ucf101_caption(name.split("/")[0]) for name in names]
    )
