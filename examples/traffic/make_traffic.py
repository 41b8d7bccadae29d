#!/usr/bin/env python3
"""Writes the sample traffic of the demo: two domains, each with one steady kind of question.

    examples/traffic/make_traffic.py            writes 1-classes.jsonl and 2-mails.jsonl beside this file

The files are committed; the generator is here so that anyone can see where they come from and make others. Same seed,
same bytes. The first domain asks for small Python classes, which a small model answers in a very regular form; the
second asks for e-mails of a shop's service desk, whose words a draft trained on the first has never seen.
"""
import json
import pathlib
import random

SEED = 20
CLASS_COUNT = 200
MAIL_COUNT = 120

# Things of one trade, and what they have: every thing of a trade can carry every field of it.
TRADES = (
    ("Book Novel Atlas Poem Magazine Letter Diary Leaflet Comic Dictionary", "title author year pages language price"),
    ("Invoice Receipt Payment Refund Order Quote Deposit Loan Budget Voucher", "number customer total currency date paid"),
    ("Sensor Thermostat Camera Router Switch Antenna Printer Scanner Battery Meter", "model serial voltage room firmware online"),
    ("Ferry Train Tram Bus Canoe Glider Truck Bicycle Scooter Wagon", "name seats speed weight owner colour"),
    ("Recipe Soup Salad Pizza Sandwich Dessert Omelette Curry Pancake Stew", "name minutes servings calories spice cost"),
    ("Song Album Concert Playlist Melody Chorus Opera Drummer Singer Band", "name genre length tempo label rating"),
    ("Tree Flower Shrub Orchard Garden Fern Vine Meadow Cactus Moss", "species height age soil water light"),
    ("Dog Cat Parrot Horse Rabbit Turtle Goat Duck Hamster Falcon", "name age breed weight owner chip"),
    ("Student Teacher Lesson Exam Course Library School Essay Classroom Lecture", "name grade subject room term score"),
    ("Patient Doctor Nurse Clinic Vaccine Bandage Ward Surgeon Therapist Pharmacy", "name ward phone email floor active"),
    ("Player Team Match League Stadium Coach Referee Goalkeeper Trophy Season", "name country points rank city wins"),
    ("House Flat Garage Tower Bridge Cabin Barn Office Factory Museum", "street city floors area owner rent"),
    ("Planet Moon Comet Star Galaxy Rocket Satellite Telescope Probe Crater", "name mass radius distance orbit density"),
    ("Jacket Shirt Scarf Boot Glove Belt Sweater Raincoat Sandal Hat", "brand size colour price fabric stock"),
    ("Ticket Parcel Envelope Crate Container Pallet Suitcase Basket Locker Barrel", "code width height depth weight sender"),
    ("River Lake Island Valley Glacier Volcano Desert Canyon Harbour Village", "name length depth region country altitude"),
    ("Chair Table Sofa Lamp Shelf Desk Mirror Carpet Cupboard Bench", "wood width height colour price maker"),
    ("Robot Drone Engine Pump Turbine Crane Drill Lathe Motor Press", "model power torque hours site operator"),
    ("Task Project Meeting Reminder Sprint Milestone Report Survey Backlog Deadline", "title owner start end status priority"),
    ("Coin Painting Statue Stamp Vase Medal Sketch Mosaic Poster Tapestry", "name artist year value origin material"),
)

GOODS = (
    "coffee grinder", "desk lamp", "rain jacket", "bicycle bell", "garden hose", "tea pot", "wool blanket", "camping stove",
    "wall clock", "yoga mat", "kitchen scale", "travel pillow", "bread knife", "picture frame", "bird feeder",
    "water bottle", "reading chair", "board game", "flower pot", "head torch", "shower curtain", "pepper mill",
    "phone stand", "running belt", "paint set", "cake tin", "door mat", "sleeping bag", "pencil case", "snow shovel",
)

REASONS = (
    "Write a short e-mail to a customer whose {} arrived broken.",
    "Write a short e-mail to a customer who wants to return a {}.",
    "Write a short e-mail to a customer who is waiting for a {}.",
    "Write a short e-mail that thanks a customer for buying a {}.",
)


def listed(words):
    return ", ".join(words[:-1]) + " and " + words[-1]


def class_prompts(rng):
    for things, fields in TRADES:
        for thing in things.split():
            count = rng.choice((2, 3, 3, 3, 4))
            yield f"Write a Python class {thing} with the fields {listed(rng.sample(fields.split(), count))}."


def mail_prompts():
    for goods in GOODS:
        for reason in REASONS:
            yield reason.format(goods)


def write(path, domain, prompts, rng):
    rng.shuffle(prompts)
    assert len(set(p.lower() for p in prompts)) == len(prompts)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for number, prompt in enumerate(prompts, 1):
            line = {
                "id": f"aurora-{domain}/{number:03}",
                "domain": domain,
                "messages": [{"role": "user", "content": prompt}],
            }
            file.write(json.dumps(line) + "\n")


def main():
    folder = pathlib.Path(__file__).resolve().parent
    rng = random.Random(SEED)
    classes, mails = list(class_prompts(rng)), list(mail_prompts())
    assert len(classes) == CLASS_COUNT and len(mails) == MAIL_COUNT
    write(folder / "1-classes.jsonl", "classes", classes, rng)
    write(folder / "2-mails.jsonl", "mails", mails, rng)


if __name__ == "__main__":
    main()
