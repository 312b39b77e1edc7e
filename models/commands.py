#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Commands to a house and the JSON that they mean: commands.py SET COUNT [SEED] > FILE.jsonl

SET is train, combos (combinations of device, room and value that train never has), phrasings
(templates that train never has), or slice:NAME. Made from words.py and the templates below; the
same arguments give the same bytes.
"""
import json
import sys
import zlib

import words

KEYS = ["action", "device", "scene", "room", "owner", "value", "unit", "at", "in", "for"]


class Rng:
    """SplitMix64: the same numbers with every Python."""

    def __init__(self, seed):
        self.state = seed & (2 ** 64 - 1)

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & (2 ** 64 - 1)
        z = self.state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & (2 ** 64 - 1)
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & (2 ** 64 - 1)
        return z ^ z >> 31

    def below(self, n):
        return self.next() % n

    def chance(self, p):
        return self.next() / 2 ** 64 < p

    def pick(self, items):
        return items[self.below(len(items))]


# ---- numbers and times ---------------------------------------------------------------------------

ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen").split()
TENS = "? ? twenty thirty forty fifty sixty seventy eighty ninety".split()


def spell(n):
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + ("" if n % 10 == 0 else (" " + ONES[n % 10]))
    if n == 100:
        return "a hundred"
    rest = n % 100
    return ONES[n // 100] + " hundred" + (" and " + spell(rest) if rest else "")


def number(rng, n):
    text = spell(n) if rng.chance(0.45) else str(n)
    if n == 100 and text == "a hundred" and rng.chance(0.5):
        text = "one hundred"
    if " " in text and n < 100 and rng.chance(0.3):
        text = text.replace(" ", "-")
    return text


def clock(rng):
    """A time of the day as people say it, and as 24 hours."""
    hour, kind = rng.below(24), rng.below(12)
    minute = rng.pick([0, 15, 30, 45, 5, 10, 20, 25, 35, 40, 50, 55])
    if kind == 0:
        return rng.pick([("noon", "12:00"), ("midnight", "00:00"), ("midday", "12:00")])
    if kind == 1:
        return f"{hour}:{minute:02d}", f"{hour:02d}:{minute:02d}"
    # Without am or pm the hour is the one of the morning, and that of twelve noon.
    twelve = hour % 12 or 12
    half, part = "", None
    if rng.chance(0.55):
        part = "am" if hour < 12 else "pm"
        half = rng.pick([" " + part, part, " in the morning" if hour < 12 else
                         (" in the afternoon" if 12 <= hour < 18 else " in the evening"),
                         " a.m." if hour < 12 else " p.m."])
        if hour < 5 and "morning" in half:
            half = " am"
        if hour == 12 and "afternoon" in half:
            half = " pm"
        if hour >= 21 and "evening" in half:
            half = rng.pick([" pm", " at night"])
        if half == part and kind in (4, 5, 6, 7):
            half = " " + part
    meant = hour if part else (twelve % 12 if twelve != 12 else 12)
    spoken = spell(twelve) if rng.chance(0.5) else str(twelve)
    if kind in (2, 3):
        text = f"{twelve}:{minute:02d}"
    elif kind == 4:
        minute, text = 30, "half past " + spoken
    elif kind == 5:
        minute, text = 15, "quarter past " + spoken
        text = rng.pick(["", "a "]) + text
    elif kind == 6:
        minute = 45
        following = twelve % 12 + 1
        text = "quarter to " + (spell(following) if rng.chance(0.5) else str(following))
        if part and (hour % 12) == 11:
            half = ""
            meant = twelve % 12 if twelve != 12 else 12
    elif kind == 7 and minute:
        text = spell(twelve) + " " + (spell(minute) if minute > 9 else "oh " + spell(minute))
    else:
        minute, text = 0, spoken
        if not half and rng.chance(0.3):
            text += " o'clock"
    return text + half, f"{meant:02d}:{minute:02d}"


SPANS = [("half an hour", "30 min"), ("an hour", "1 h"), ("a quarter of an hour", "15 min"),
         ("one hour", "1 h"), ("a minute", "1 min"), ("an hour and a half", "90 min"),
         ("two hours", "2 h"), ("half a minute", "30 s"), ("a couple of minutes", "2 min"),
         ("a couple of hours", "2 h"), ("one minute", "1 min"),
         ("three quarters of an hour", "45 min")]


def span(rng):
    if rng.chance(0.25):
        return rng.pick(SPANS)
    unit = rng.pick(["min", "min", "min", "h", "s"])
    n = {"min": rng.pick(list(range(2, 61)) + [5, 10, 15, 20, 30, 45, 90, 120]),
         "h": 2 + rng.below(11), "s": rng.pick([10, 15, 20, 30, 40, 45, 60, 90])}[unit]
    name = {"min": ["minutes", "minutes", "min", "mins"], "h": ["hours", "hours", "h", "hrs"],
            "s": ["seconds", "seconds", "sec", "secs"]}[unit]
    return number(rng, n) + " " + rng.pick(name), f"{n} {unit}"


# ---- slots ---------------------------------------------------------------------------------------

class Speaker:
    """Who says it: a dialect, and chance."""

    def __init__(self, rng, dialect=None, names=None):
        self.rng = rng
        self.dialect = dialect or rng.pick([words.UK, words.US])
        self.names = names

    def say(self, variants):
        """One of the variants that this dialect has."""
        mine = [v if isinstance(v, str) else v[1] for v in variants
                if isinstance(v, str) or v[0] == self.dialect]
        return self.rng.pick(mine)


def plural(word):
    return word.endswith("s") and word not in ("gas",)


def where(s, out, device, chance=0.6, everywhere=True):
    """A phrase of place, or none; what it means goes to out."""
    rng = s.rng
    if not rng.chance(chance):
        return "", ""
    roll = rng.below(100)
    if roll < 6 and everywhere:
        out["room"] = "all"
        return "", rng.pick(words.EVERYWHERE)
    if roll < 22 or (s.names and roll < 60):
        origin = s.names or rng.pick(sorted(words.NAMES))
        name = rng.pick(words.NAMES[origin])
        out["owner"] = name
        shown = name.capitalize() if rng.chance(0.85) else name
        owned = shown + ("'" if name.endswith("s") and rng.chance(0.4) else "'s") \
            if rng.chance(0.95) else shown + "s"
        return rng.pick([owned, owned + " room"]) if device != "room" else owned + " room", \
            "in " + owned + rng.pick([" room", " room", " bedroom"])
    room = rng.pick(sorted(words.ROOMS))
    if room == "garage" and device == "garage":
        return "", ""
    word = s.say(words.ROOMS[room])
    out["room"] = room
    on = "on" if word in words.ON else rng.pick(["in", "in", "in", "in", "of", "for"])
    return word, f"{on} the {word}"


def named(s, out, device, table):
    """The device with its place: 'the lights in the hall', 'kitchen lights', 'the lamp'."""
    rng = s.rng
    word = s.say(table[device])
    out["device"] = device
    near, far = where(s, out, device) if device in words.ROOMED | {"blinds", "window"} else ("", "")
    if device in ("vacuum", "sprinkler"):
        near, far = "", ""
    roll = rng.below(10)
    all_ = "all the " if out.get("room") == "all" and rng.chance(0.3) else None
    the = all_ or rng.pick(["the ", "the ", "the ", "", "my "])
    if "owner" in out and near:
        return rng.pick([f"{near} {word}", f"the {word} {far}", f"{word} {far}"])
    if near and roll < 5:
        return f"{the}{near} {word}"
    if far:
        return f"{the}{word} {far}"
    return f"{the}{word}"


def timing(s, out, kinds, chance=0.22):
    """A phrase of time behind a command, or none."""
    rng = s.rng
    if not rng.chance(chance):
        return ""
    kind = rng.pick(kinds)
    if kind == "at":
        text, out["at"] = clock(rng)
        return rng.pick([" at ", " at ", " at "]) + text
    text, value = span(rng)
    out[kind] = value
    return {"in": " in ", "for": " for "}[kind] + text


# ---- intents -------------------------------------------------------------------------------------
# A template is text with {slots}; each has a number of its own, by which whole templates are kept
# for the test of phrasings.

TEMPLATES = {
    "on": ["turn on {d}", "turn {d} on", "switch on {d}", "switch {d} on", "put {d} on",
           "{d} on", "power on {d}", "get {d} going", "turn {d} on for me", "I want {d} on",
           "I need {d} on", "let's have {d} on", "activate {d}", "enable {d}", "fire up {d}",
           "have {d} on", "could {d} be on", "I'd like {d} on", "flick {d} on", "on with {d}",
           "power up {d}", "bring {d} on", "make sure {d} is on", "start up {d}"],
    "off": ["turn off {d}", "turn {d} off", "switch off {d}", "switch {d} off", "shut off {d}",
            "shut {d} off", "{d} off", "kill {d}", "power off {d}", "cut {d}", "power down {d}",
            "I want {d} off", "I don't need {d} any more", "deactivate {d}", "disable {d}",
            "turn {d} off for me", "no more {d}", "put {d} out", "let's have {d} off",
            "flick {d} off", "off with {d}", "make sure {d} is off", "I'd like {d} off",
            "get {d} off", "shut down {d}"],
    "toggle": ["toggle {d}", "flip {d}", "flip the switch of {d}", "switch {d} over",
               "change the state of {d}", "toggle the switch of {d}"],
    "open": ["open {d}", "open up {d}", "{d} open", "get {d} open", "I want {d} open",
             "pull {d} open", "can we have {d} open", "let's open {d}", "have {d} open",
             "I'd like {d} open", "go and open {d}"],
    "close": ["close {d}", "shut {d}", "{d} closed", "pull {d} shut", "get {d} shut",
              "I want {d} closed", "let's close {d}", "have {d} closed", "close up {d}",
              "I'd like {d} closed", "make sure {d} is closed", "go and shut {d}"],
    "raise_blinds": ["raise {d}", "pull up {d}", "{d} up", "roll up {d}", "lift {d}",
                     "put {d} up", "draw {d} back", "roll {d} up"],
    "lower_blinds": ["lower {d}", "pull down {d}", "{d} down", "roll down {d}", "let {d} down",
                     "put {d} down", "draw {d}", "roll {d} down"],
    "lock": ["lock {d}", "lock up {d}", "{d} locked", "make sure {d} is locked", "bolt {d}",
             "secure {d}", "get {d} locked", "I want {d} locked"],
    "lock_bare": ["lock up", "lock the house", "lock everything up", "lock all the doors",
                  "lock the doors"],
    "unlock": ["unlock {d}", "{d} unlocked", "unbolt {d}", "release {d}", "let me in at {d}",
               "get {d} unlocked"],
    "start": ["start {d}", "run {d}", "start up {d}", "get {d} started", "begin {d}",
              "set {d} going", "launch {d}", "let {d} run", "kick off {d}", "get {d} running",
              "turn on {d}", "switch {d} on", "{d} on", "put {d} on", "turn {d} on",
              "switch on {d}"],
    "stop": ["stop {d}", "halt {d}", "pause {d}", "end {d}", "make {d} stop", "cancel {d}",
             "interrupt {d}"],
    "brightness": ["set {d} to {v}", "dim {d} to {v}", "put {d} at {v}", "turn {d} down to {v}",
                   "turn {d} up to {v}", "{d} to {v}", "{d} at {v}", "bring {d} to {v}",
                   "I want {d} at {v}", "make {d} {v} bright", "{d} {v}", "lower {d} to {v}",
                   "raise {d} to {v}", "brighten {d} to {v}", "adjust {d} to {v}",
                   "change {d} to {v}", "have {d} at {v}", "{v} for {d}", "{v} on {d}",
                   "I'd like {d} at {v}", "get {d} down to {v}"],
    "raise": ["turn up {d}", "turn {d} up", "increase {d}", "{d} up", "raise {d}",
              "turn {d} up a bit", "turn {d} up a little", "more {d}", "a bit more {d}",
              "make {d} stronger", "{d} higher", "crank up {d}", "step up {d}", "put {d} up",
              "boost {d}", "turn {d} up a notch"],
    "lower": ["turn down {d}", "turn {d} down", "decrease {d}", "{d} down", "lower {d}",
              "turn {d} down a bit", "turn {d} down a little", "less {d}", "a bit less {d}",
              "reduce {d}", "{d} lower", "put {d} down", "ease off {d}", "cut back {d}",
              "turn {d} down a notch"],
    "brighter": ["make {d} brighter", "brighten {d}", "brighten up {d}", "{d} brighter",
                 "I need more light {far}", "it's too dark {far}", "more light {far}",
                 "it's a bit dim {far}", "light up {the_room} more", "brighten up {the_room}"],
    "dimmer": ["make {d} dimmer", "dim {d}", "dim {d} a little", "{d} dimmer", "dim {d} a bit",
               "it's too bright {far}", "less light {far}", "a bit less light {far}",
               "soften {d}", "make {d} less bright", "the light is too bright {far}"],
    "warmer": ["make it warmer {far}", "it's too cold {far}", "warm up {the_room}",
               "make {the_room} warmer", "a bit warmer {far}", "I'm cold {far}",
               "can it be warmer {far}", "it's chilly {far}", "warm {the_room} up a bit",
               "heat up {the_room} a little", "raise the temperature {far}",
               "turn the temperature up {far}", "I'm freezing {far}", "it's cold {far}"],
    "cooler": ["make it cooler {far}", "it's too warm {far}", "make {the_room} cooler",
               "a bit cooler {far}", "it's too hot {far}", "cool {the_room} down a bit",
               "can it be cooler {far}", "lower the temperature {far}",
               "turn the temperature down {far}", "I'm too hot {far}", "it's boiling {far}"],
    "by": ["turn {d} {way} by {v}", "turn {way} {d} by {v}", "turn {way} {d} {v}",
           "{d} {way} {v}", "{d} {way} by {v}", "move {d} {way} {v}", "{updown} {d} by {v}",
           "{updown} {d} {v}", "take {d} {way} {v}", "bring {d} {way} by {v}"],
    "heat_by": ["make it {v} warmer {far}|raise", "make it {v} cooler {far}|lower",
                "{v} warmer {far}|raise", "{v} colder {far}|lower",
                "raise the temperature by {v} {far}|raise", "bump {the_room} up {v}|raise",
                "lower the temperature by {v} {far}|lower", "drop {the_room} by {v}|lower",
                "bump the temperature up by {v} {far}|raise"],
    "heat_to": ["set {d} to {v}", "set the temperature to {v} {far}", "heat {the_room} to {v}",
                "{d} to {v}", "{d} at {v}", "put {d} at {v}", "warm {the_room} up to {v}",
                "I want it to be {v} {far}", "make it {v} {far}", "{v} {far}",
                "set {the_room} to {v}", "bring {the_room} to {v}", "keep {the_room} at {v}",
                "I'd like {the_room} at {v}", "set the thermostat to {v} {far}",
                "thermostat {far} to {v}", "{the_room} at {v}", "turn {d} to {v}",
                "I'd like it {v} {far}", "get {the_room} to {v}", "turn {the_room} down to {v}",
                "turn {the_room} up to {v}", "{d} {v}", "temperature {far} {v}"],
    "color": ["make {d} {v}", "set {d} to {v}", "turn {d} {v}", "{d} {v}", "change {d} to {v}",
              "{v} light {far}", "change the {color} of {d} to {v}", "I want {d} {v}",
              "set the {color} of {d} to {v}", "switch {d} to {v}", "{v} lights {far}",
              "I'd like {v} light {far}", "give me {v} light {far}", "{d} in {v}",
              "paint {the_room} {v}", "the {color} of {d} should be {v}"],
    "scene": [],
    "timer": ["set a timer for {v}", "timer for {v}", "{v} timer", "start a timer for {v}",
              "timer {v}", "set the timer to {v}", "start a {v1} timer", "count down {v}",
              "put {v} on the timer", "remind me in {v}", "give me a timer for {v}",
              "{v} on the timer", "set a {v1} timer", "let me know in {v}",
              "I need a timer for {v}", "countdown of {v}"],
    "alarm_at": ["wake me at {t}", "wake me up at {t}", "set an alarm for {t}", "alarm at {t}",
                 "alarm for {t}", "set the alarm to {t}", "set my alarm for {t}",
                 "get me up at {t}", "{t} alarm", "I have to get up at {t}",
                 "I want to wake up at {t}", "set the alarm clock to {t}",
                 "put an alarm on for {t}"],
    "alarm_in": ["wake me in {t}", "wake me up in {t}", "set an alarm in {t}", "alarm in {t}",
                 "get me up in {t}"],
    "volume": ["set {d} to {v}", "volume {v} on {d}", "turn {d} up to {v}",
               "turn {d} down to {v}", "set the volume of {d} to {v}", "{d} volume {v}",
               "put {d} at {v}", "volume of {d} to {v}", "{d} at volume {v}", "{d} to {v}",
               "turn {d} volume to {v}", "adjust {d} to {v}"],
    "volume_bare": ["set the volume to {v}", "volume {v}", "volume to {v}", "volume at {v}",
                    "put the volume at {v}", "turn the volume down to {v}",
                    "turn the volume up to {v}"],
    "channel": ["put on channel {v}", "switch {d} to channel {v}", "channel {v} on {d}",
                "channel {v}", "turn {d} to channel {v}", "change {d} to channel {v}",
                "change the channel to {v}", "go to channel {v}", "show channel {v}",
                "I want to watch channel {v}"],
    "fan_to": ["set {d} to {v}", "{d} on {v}", "{d} at {v}", "turn {d} to {v}", "put {d} on {v}",
               "{d} speed {v}", "set the speed of {d} to {v}", "run {d} at {v}", "{d} to {v}"],
    "oven_to": ["set {d} to {v}", "preheat {d} to {v}", "heat {d} to {v}", "{d} to {v}",
                "{d} at {v}", "turn {d} to {v}", "preheat {d} at {v}", "put {d} on at {v}",
                "get {d} up to {v}", "turn {d} on at {v}", "warm {d} up to {v}"],
    "blinds_to": ["set {d} to {v}", "{d} to {v}", "put {d} at {v}", "{d} at {v}",
                  "open {d} to {v}", "close {d} to {v}", "pull {d} to {v}", "move {d} to {v}",
                  "lower {d} to {v}", "raise {d} to {v}", "bring {d} to {v}"],
    "blinds_half": ["{d} halfway", "open {d} halfway", "close {d} halfway", "half close {d}",
                    "pull {d} down halfway", "pull {d} up halfway", "half open {d}",
                    "{d} half way down"],
    "vacuum": ["vacuum {the_room}", "hoover {the_room}", "clean {the_room}",
               "clean the floor {far}", "let the robot clean {the_room}", "vacuum {far}",
               "send the robot to {the_room}", "sweep {the_room}", "have {the_room} vacuumed",
               "run the vacuum {far}", "do the floor {far}"],
    "vacuum_stop": ["stop vacuuming", "stop hoovering", "stop the robot", "stop cleaning",
                    "send the robot home", "tell the robot to stop", "robot stop",
                    "send the vacuum back", "tell the vacuum to stop"],
    "water": ["water the {garden}", "water the plants", "water the lawn", "water the flowers",
              "start watering", "start watering the {garden}", "give the lawn some water"],
    "water_stop": ["stop watering", "stop the water", "no more watering",
                   "stop watering the {garden}", "enough water"],
    "coffee": ["make me a coffee", "make coffee", "brew some coffee", "I'd like a coffee",
               "coffee please", "I need a coffee", "brew me a coffee", "start the coffee",
               "make a cup of coffee", "get the coffee going", "put the coffee on"],
    "kettle": ["boil the kettle", "boil some water", "put the kettle on", "kettle on",
               "make some hot water", "boil water for tea", "I want tea, boil the water"],
    "washing": ["do the dishes|dishwasher", "wash the dishes|dishwasher",
                "do the laundry|washer", "wash the clothes|washer", "dry the clothes|dryer",
                "dry the laundry|dryer", "do the washing|washer", "do the washing up|dishwasher"],
    "arm": ["arm {d}", "set {d}", "arm the house", "turn on {d}", "activate {d}", "{d} on",
            "switch on {d}", "switch {d} on", "arm the alarm"],
    "disarm": ["disarm {d}", "disarm the house", "turn off {d}", "deactivate {d}", "{d} off",
               "switch off {d}", "switch {d} off", "disarm the alarm", "unset {d}"],
    "alarm_stop": ["stop the alarm", "turn off the alarm clock", "alarm off",
                   "stop the alarm clock", "shut the alarm up", "cancel the alarm",
                   "cancel my alarm",
                   "switch the alarm clock off", "turn my alarm off"],
    "timer_stop": ["stop the timer", "cancel the timer", "timer off", "end the timer",
                   "forget the timer", "kill the timer", "turn off the timer"],
    "quieter": ["make {d} quieter", "{d} quieter", "quieter {d}", "softer {d}",
                "not so loud with {d}", "{d} is too loud", "turn down the volume of {d}"],
    "louder": ["make {d} louder", "{d} louder", "louder {d}", "{d} is too quiet",
               "I can't hear {d}", "turn up the volume of {d}"],
    "quieter_bare": ["it's too loud", "volume down", "turn the volume down", "lower the volume",
                     "quieter", "too loud", "not so loud"],
    "louder_bare": ["volume up", "turn the volume up", "raise the volume", "louder",
                    "I can't hear anything", "it's too quiet"],
    "music": ["play some music {far}", "play music {far}", "put some music on {far}",
              "music {far}", "I want to hear music {far}", "play something {far}",
              "start the music {far}"],
    "music_stop": ["stop the music {far}", "stop playing {far}", "pause the music {far}",
                   "pause the song {far}", "stop the song {far}"],
    "ask_on": ["is {d} on", "is {d} off", "is {d} still on", "did I leave {d} on",
               "is {d} running", "check {d}", "what about {d}", "tell me if {d} is on",
               "have I turned {d} off", "did I turn off {d}", "what's the state of {d}",
               "can you check if {d} is on", "status of {d}", "do we have {d} on"],
    "ask_open": ["is {d} open", "is {d} closed", "is {d} shut", "did I leave {d} open",
                 "check {d}", "did I close {d}", "have I shut {d}", "tell me if {d} is open",
                 "what's the state of {d}", "can you check if {d} is closed", "status of {d}",
                 "is {d} still open"],
    "ask_lock": ["is {d} locked", "is {d} unlocked", "did I lock {d}", "have I locked {d}",
                 "check if {d} is locked", "tell me if {d} is locked"],
    "ask_done": ["is {d} done", "is {d} finished", "how long does {d} take", "is {d} still running",
                 "how long for {d}", "when is {d} done", "when will {d} be done",
                 "has {d} finished"],
    "ask_temperature": ["how warm is it {far}", "what's the temperature {far}",
                        "how cold is it {far}", "temperature {far}", "how hot is it {far}",
                        "what is the temperature {far}", "tell me the temperature {far}",
                        "is it cold {far}", "how many degrees are there {far}",
                        "is it warm {far}"],
    "ask_humidity": ["how humid is it {far}", "what's the humidity {far}", "humidity {far}",
                     "what is the humidity {far}", "tell me the humidity {far}",
                     "is the air dry {far}", "how damp is it {far}"],
    "ask_heating": ["what is the thermostat set to", "what is {d} set to", "how high is {d}",
                    "what's {d} set to", "what's the thermostat at"],
    "ask_light": ["how bright is {d}", "what is {d} set to", "which lights are on {far}",
                  "are any lights on {far}", "how bright is it {far}"],
    "ask_timer": ["how long is left on the timer", "how much time is left", "check the timer",
                  "how long does the timer have", "what's left on the timer", "timer status",
                  "how many minutes are left on the timer"],
    "ask_alarm": ["when is my alarm", "what time is my alarm", "is my alarm set",
                  "when does the alarm go off", "is there an alarm set", "check my alarm"],
    "all_off": ["turn everything off {far}", "switch everything off {far}", "everything off {far}",
                "shut everything down {far}", "turn it all off {far}", "power everything off {far}",
                "kill everything {far}", "all off {far}"],
    "dark": ["I can't see anything {far}", "it's dark {far}", "let there be light {far}",
             "give me some light {far}", "some light {far}", "I need light {far}",
             "lights {far}", "light {far}", "illuminate {the_room}", "light up {the_room}"],
    "stuffy": ["open a window {far}", "let some air in {far}", "let some fresh air in {far}",
               "I need fresh air {far}", "air {the_room}", "air out {the_room}"],
}

SCENES = {
    "movie": ["movie time", "let's watch a movie", "movie mode", "start a film night",
              "we're watching a film", "cinema mode", "time for a movie", "movie night",
              "set up for a movie", "film time", "movie scene"],
    "night": ["good night", "I'm going to bed", "time for bed", "night mode", "goodnight",
              "we're going to sleep", "bedtime", "I'm going to sleep", "off to bed", "sleep well",
              "night scene", "I'm off to sleep"],
    "morning": ["good morning", "I'm up", "morning mode", "rise and shine", "I'm awake",
                "time to get up", "morning", "morning scene", "we're awake"],
    "party": ["party mode", "party time", "let's party", "start the party", "we're having a party",
              "time to party", "party scene"],
    "away": ["I'm leaving", "we're leaving", "away mode", "I'm off", "nobody's home", "goodbye",
             "leaving the house", "we're going out", "I'm going out", "see you later",
             "we're off on holiday", "I'm heading out", "bye, see you tonight", "away scene",
             "everybody is going out"],
    "home": ["I'm home", "we're home", "I'm back", "home mode", "we're back home", "back home",
             "welcome me home", "I just got home", "home scene", "I've come home"],
    "dinner": ["dinner time", "dinner mode", "time for dinner", "we're having dinner",
               "set the mood for dinner", "dinner is ready", "let's eat", "supper time",
               "dinner scene", "set the room for dinner"],
    "reading": ["reading mode", "I want to read", "reading light", "I'm going to read",
                "time to read", "set up for reading", "let me read a book", "reading scene",
                "I'd like to read"],
    "work": ["work mode", "time to work", "I'm going to work in the office", "let's get to work",
             "focus mode", "working from home now", "I need to concentrate", "work scene",
             "I have to work now"],
}
for name, texts in SCENES.items():
    TEMPLATES["scene:" + name] = texts + [f"set the {name} scene", f"{name} scene please",
                                          f"start the {name} scene", f"switch to {name} mode",
                                          f"activate the {name} scene"]

NONE_SUBJECTS = ("the capital of France|the tallest mountain|a black hole|the meaning of life|"
                 "the national anthem|a good book|the best pizza|the stock market|world history|"
                 "the president|photosynthesis|quantum physics|my horoscope|the football results|"
                 "a haiku|the lottery numbers|the traffic|the population of China|"
                 "how engines work|the price of gold|a recipe for soup|dinosaurs|the Roman empire|"
                 "the speed of light|the temperature of the sun|a new phone|my calendar|"
                 "the train to London|electric cars|the weather tomorrow|the weather|"
                 "the news|the bible|chess|my taxes|the dollar|a holiday in Spain").split("|")
NONE_PEOPLE = ("my mother|my boss|Anna|the doctor|my brother|the bank|John|grandma|the plumber|"
               "the neighbours|Maria|the school|my wife|my husband|Ahmed|Priya|Li").split("|")
NONE = ["what is {s}", "tell me about {s}", "who invented {s}", "explain {s}", "how about {s}",
        "what do you know about {s}", "search for {s}", "look up {s}", "do you like {s}",
        "when was {s} discovered", "where can I find {s}", "write a poem about {s}",
        "show me pictures of {s}", "what do you think of {s}", "I love {s}", "give me {s}",
        "call {p}", "send a message to {p}", "write an email to {p}", "text {p}",
        "tell {p} that I'm late", "when is the birthday of {p}", "what did {p} say",
        "invite {p} to lunch", "I miss {p}", "ask {p} for the money", "phone {p} now",
        "tell me a joke", "sing a song", "how are you", "who are you", "what's your name",
        "what can you do", "what time is it", "what day is it", "hello", "hi", "hey", "thank you",
        "thanks a lot", "never mind", "forget it", "sorry", "you're welcome", "great", "okay",
        "yes", "no", "maybe", "stop it", "well done", "be quiet", "shut up", "are you there",
        "how old are you", "do you love me", "I'm bored", "I'm hungry", "I'm tired of this",
        "order a pizza", "buy some milk", "add eggs to the shopping list",
        "what is {n} plus {m}", "what is {n} times {m}", "how much is {n} minus {m}",
        "divide {n} by {m}", "count to {n}", "roll a dice", "flip a coin", "pick a number",
        "translate good morning into French", "how do you say water in German",
        "book a flight to Rome", "book a table for {n}", "get me a taxi", "how far is it to Paris",
        "how do I get to the station", "is the shop open on Sunday", "when does the bank close",
        "what's on at the cinema", "who won the game", "how did the match end",
        "will it rain tomorrow", "is it going to snow", "do I need an umbrella",
        "read my messages", "any new mail", "what's on my calendar", "remind me to call {p}",
        "remind me to buy bread", "take a note", "add a meeting on Monday", "cancel my meeting",
        "how do I clean a window", "how does a heater work", "what does an oven cost",
        "who makes the best coffee machine", "my light bulb is broken", "the door bell rang",
        "I bought a new lamp", "I like the colour blue", "where is my phone", "find my keys",
        "I lost my keys", "my phone is off", "the tv show was great", "I opened a bank account",
        "we closed the deal", "turn around", "turn left", "turn the page", "turn into a frog",
        "switch sides", "set a good example", "set sail for America", "start a company",
        "stop smoking", "open your mind", "open a bottle of wine", "close your eyes",
        "lock him up", "raise your hand", "raise the children", "lower your expectations",
        "dim sum for lunch", "play football", "play chess with me", "run a marathon",
        "fan of the team", "radio stations in history", "who was the first man on the moon",
        "the window of time is short", "light as a feather", "this is lit", "heat of the moment",
        "a warm welcome", "cold case", "hot news", "door to door sales", "garage band",
        "kitchen nightmares is a show", "music is my life", "who sings this song",
        "what's the best tv series", "is coffee healthy", "how many lights are there in the sky",
        "what temperature does water boil at", "what is the hottest place on earth",
        "how long do I cook pasta", "how many minutes are in a day", "how long is a marathon",
        "is the earth flat", "is the door a movie", "do fish sleep", "are you a robot",
        "can you drive a car", "can you help me with homework", "could you do my taxes",
        "would you marry me", "please write my essay", "please fix my car",
        "I want to learn Spanish", "I need a doctor", "I have a headache", "it's my birthday",
        "happy new year", "merry Christmas", "blah blah", "lorem ipsum", "abc", "one two three",
        "test", "qwerty", "xyz {n}", "the quick brown fox", "foo bar", "hmm", "um", "what",
        "why", "who", "where", "because", "whatever", "good luck", "have a nice day",
        "see the doctor at {t}", "my train leaves at {t}", "the meeting is at {t}",
        "I was born in {n}", "my number is {n}", "I'm {n} years old", "{n} people came",
        "the film lasts {d} ", "I slept for {d}", "I waited {d}", "she ran {n} miles",
        "the lamp costs {n} dollars", "my oven is {n} years old"]
TEMPLATES["none"] = NONE

BEFORE = ["please ", "can you ", "could you ", "would you ", "hey, ", "ok, ", "okay ", "hi, ",
          "could you please ", "can you please ", "would you mind ", "I'd like you to ",
          "be so kind and ", "would you please ", "just ", "now ", "quickly ", "hey house, ",
          "go ahead and ", "if you could, ", "I want you to ", "kindly ", "so, ", "right, "]
AFTER = [" please", ", please", " now", " for me", ", thanks", " thank you", " right now",
         ", will you", ", would you", " if you can", ", thank you", " then", " again", " today"]
POLITE_BEFORE = ["please ", "could you please ", "would you please ", "would you be so kind and ",
                 "could you kindly ", "can you please ", "please could you "]
# Before a verb alone: a question or a wish takes no "could you".
IMPERATIVE_ONLY = {"can you ", "could you ", "would you ", "could you please ", "can you please ",
                   "would you mind ", "I'd like you to ", "be so kind and ", "would you please ",
                   "just ", "quickly ", "go ahead and ", "I want you to ", "kindly ",
                   "would you be so kind and ", "could you kindly ", "please could you "}
VERBS = ("turn switch put set open close shut dim brighten make start run stop lock unlock lower "
         "raise change boil vacuum clean pull roll bring get activate enable disable deactivate "
         "power adjust water heat warm toggle cancel pause play tell give wake check preheat arm "
         "disarm kill cut light air cool bump hoover sweep brew increase decrease reduce move "
         "draw").split()


# ---- sentences -----------------------------------------------------------------------------------

class Skip(Exception):
    """This combination does not make sense: another is drawn."""


class Command:
    """One command: its text with slots filled, what it means, and the template that it is of."""

    def __init__(self, s, pick):
        self.s, self.rng, self.out, self.template = s, s.rng, {}, None
        self.pick = pick    # of a list of templates: those of this set
        self.text = ""

    def fill(self, intent, **slots):
        templates = self.pick(intent, TEMPLATES[intent])
        if not templates:
            raise Skip
        self.template = self.rng.pick(templates)
        text = self.template
        if "|" in text:
            text, self.tail = text.split("|")
        for name, value in slots.items():
            if "{" + name + "}" in text:
                text = text.replace("{" + name + "}", value() if callable(value) else value)
        self.text = " ".join(text.split())

    def place(self, chance=0.5, device="light", everywhere=False):
        """Slots far and the_room over one and the same place."""
        near, far = where(self.s, self.out, device, chance, everywhere)
        if "owner" in self.out:
            return {"far": far, "the_room": near if near.endswith("room") else near + " room"}
        return {"far": far, "the_room": ("the " + near if near else
                                         ("it" if not far else "all rooms"))}

    def need_room(self, slots):
        """A template that names the room needs one."""
        if "{the_room}" in self.template and slots["the_room"] == "it":
            raise Skip


def put(c, **fields):
    c.out.update(fields)


def with_place(c, intent, action, device, chance=0.5, **more):
    slots = c.place(chance)
    c.fill(intent, **slots, **more)
    c.need_room(slots)
    if "{far}" not in c.template and "{the_room}" not in c.template:
        c.out.pop("room", None)
        c.out.pop("owner", None)
    put(c, action=action, device=device)


def switched(c, on):
    names = sorted(words.SWITCHED)
    device = c.rng.pick(names + ["light"] * 14 + ["heating"] * 5 + ["tv"] * 3 + ["fan"] * 2 +
                        ["music"] * 2 + ["ac"] * 2)
    if on and device in words.RUN:
        return start(c, device)
    if device == "security":
        return arm(c, on)
    d = named(c.s, c.out, device, words.SWITCHED)
    c.fill("on" if on else "off", d=d)
    put(c, action="on" if on else "off")
    c.text += timing(c.s, c.out, ["at", "in", "for"] if on else ["at", "in"])


def start(c, device=None):
    device = device or c.rng.pick(sorted(words.RUN))
    if device == "sprinkler" and c.rng.chance(0.3):
        return water(c)
    c.fill("start", d=named(c.s, c.out, device, words.SWITCHED))
    put(c, action="start")
    c.text += timing(c.s, c.out, ["at", "in"] + (["for"] if device in ("sprinkler", "dryer")
                                                 else []), 0.35)


def arm(c, on):
    c.out.clear()
    d = c.rng.pick(["the ", "the ", ""]) + c.s.say(words.SWITCHED["security"])
    c.fill("arm" if on else "disarm", d=d)
    put(c, action="on" if on else "off", device="security")
    c.text += timing(c.s, c.out, ["at", "in"], 0.1)


def water(c):
    c.fill("water", garden=c.s.say(words.ROOMS["garden"]))
    put(c, action="start", device="sprinkler")
    c.text += timing(c.s, c.out, ["at", "in", "for"], 0.35)


def stop(c):
    device = c.rng.pick(["washer", "dryer", "dishwasher", "vacuum", "sprinkler", "music", "coffee",
                         "radio"])
    word = c.s.say(words.SWITCHED[device])
    c.fill("stop", d="the " + word)
    put(c, action="stop", device=device)


def opened(c, open_):
    device = c.rng.pick(["blinds"] * 5 + ["window"] * 4 + ["garage"] * 2 + ["door"] * 2)
    d = named(c.s, c.out, device, words.OPENED)
    intent = "open" if open_ else "close"
    if device == "blinds" and c.rng.chance(0.35):
        intent = "raise_blinds" if open_ else "lower_blinds"
    c.fill(intent, d=d)
    put(c, action="open" if open_ else "close")
    c.text += timing(c.s, c.out, ["at", "in"])


def locked(c, on):
    d = c.rng.pick(["the ", "the ", "my ", ""]) + c.s.say(words.OPENED["door"])
    if on and c.rng.chance(0.2):
        c.fill("lock_bare")
    else:
        c.fill("lock" if on else "unlock", d=d)
    put(c, action="lock" if on else "unlock", device="door")
    c.text += timing(c.s, c.out, ["at", "in"] + ([] if on else ["for"]), 0.15)


def percent(rng, n):
    return number(rng, n) + rng.pick(["%", " percent", " percent", " per cent", " %"])


def levels(c):
    rng = c.rng
    device = rng.pick(["light"] * 6 + ["blinds"] * 2 + ["fan", "music", "tv"])
    n = rng.pick(list(range(1, 101)) + [10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90] * 5)
    if device in ("music", "tv"):
        return volume(c, device, n)
    table = words.OPENED if device == "blinds" else words.SWITCHED
    d = named(c.s, c.out, device, table)
    if device == "blinds":
        if rng.chance(0.2):
            c.fill("blinds_half", d=d)
            return put(c, action="set", value=50, unit="%")
        c.fill("blinds_to", d=d, v=percent(rng, n))
    elif device == "fan":
        if rng.chance(0.5):
            n = 1 + rng.below(6)
            c.fill("fan_to", d=d, v=rng.pick(["", "level ", "speed "]) + number(rng, n))
            return put(c, action="set", value=n)
        c.fill("fan_to", d=d, v=percent(rng, n))
    else:
        special = rng.below(12)
        if special == 0:
            n, v = 50, rng.pick(["half", "half brightness", "half power"])
        elif special == 1:
            n, v = 100, rng.pick(["full", "full brightness", "maximum", "full power", "max"])
        else:
            v = percent(rng, n) if rng.chance(0.8) else number(rng, n)
        c.fill("brightness", d=d, v=v)
    put(c, action="set", value=n, unit="%")


def volume(c, device, n):
    rng = c.rng
    d = named(c.s, c.out, device, words.SWITCHED)
    v = number(rng, n)
    if device == "music" and rng.chance(0.3):
        c.out.clear()
        c.fill("volume_bare", v=v)
        put(c, action="set", device="music", value=n)
        return
    c.fill("volume", d=d, v=v)
    put(c, action="set", value=n)


def relative(c, up):
    device = c.rng.pick(["heating"] * 3 + ["music"] * 3 + ["tv"] * 2 + ["fan", "radio", "ac"] +
                        ["light"] * 3)
    c.fill("raise" if up else "lower", d=named(c.s, c.out, device, words.SWITCHED))
    put(c, action="raise" if up else "lower")


def degrees(rng, n):
    return number(rng, n) + rng.pick([" degrees", " degrees", " degree" if n == 1 else " degrees"])


def by(c):
    rng, up = c.rng, c.rng.chance(0.5)
    way = "up" if up else "down"
    device = rng.pick(["heating", "light", "fan", "music", "ac"])
    if device == "heating" and rng.chance(0.5):
        return heat_by(c)
    n = rng.pick([1, 2, 3, 4, 5, 10]) if device != "light" else rng.pick([5, 10, 15, 20, 25, 30])
    if device in ("heating", "ac"):
        v, unit = degrees(rng, n) if n > 1 else rng.pick(["one degree", "1 degree", "a degree"]), \
            "deg"
    elif device == "light":
        v, unit = percent(rng, n), "%"
    else:
        v, unit = number(rng, n), None
    c.fill("by", d=named(c.s, c.out, device, words.SWITCHED), way=way, v=v,
           updown=rng.pick(["raise", "increase"]) if up else rng.pick(["lower", "decrease",
                                                                      "reduce"]))
    put(c, action="raise" if up else "lower", value=n)
    if unit:
        put(c, unit=unit)


def heat_by(c):
    n = c.rng.pick([1, 2, 2, 3, 4, 5])
    v = degrees(c.rng, n) if n > 1 else c.rng.pick(["one degree", "1 degree", "a degree"])
    with_place(c, "heat_by", None, "heating", v=v)
    put(c, action=c.tail, value=n, unit="deg")


def heat_to(c):
    rng = c.rng
    unit, n = rng.pick([("deg", 12 + rng.below(16))] * 5 + [("C", 12 + rng.below(16)),
                                                            ("F", 55 + rng.below(26))])
    tail = {"deg": [" degrees", " degrees", ""], "C": [" celsius", " degrees celsius", " C", "°C"],
            "F": [" fahrenheit", " degrees fahrenheit", " F", "°F"]}[unit]
    v = number(rng, n) + rng.pick(tail)
    if rng.chance(0.5):
        d = named(c.s, c.out, "heating", words.SWITCHED)
        c.fill("heat_to", d=d, v=v, far="", the_room="\0")
        if "{d}" not in c.template:
            raise Skip
    else:
        slots = c.place(0.8)
        c.fill("heat_to", v=v, d="\0", **slots)
        if "{d}" in c.template:
            raise Skip
        c.need_room(slots)
        if "{far}" not in c.template and "{the_room}" not in c.template:
            raise Skip
        if not v.strip(" 0123456789").strip() and c.template == "{v} {far}":
            raise Skip
    put(c, action="set", device="heating", value=n, unit=unit)


def oven(c):
    n = c.rng.pick([80, 100, 120, 140, 150, 160, 170, 180, 190, 200, 210, 220, 230, 240, 250, 175])
    unit, tail = c.rng.pick([("deg", " degrees"), ("deg", ""), ("C", " celsius"), ("deg", "")])
    if c.rng.chance(0.1):
        n, unit, tail = c.rng.pick([300, 325, 350, 375, 400, 425]), "F", " fahrenheit"
    d = c.rng.pick(["the ", "the ", ""]) + c.s.say(words.SWITCHED["oven"])
    c.fill("oven_to", d=d, v=number(c.rng, n) + tail)
    put(c, action="set", device="oven", value=n, unit=unit)


def color(c):
    name = c.rng.pick(sorted(words.COLORS))
    v = c.s.say(words.COLORS[name])
    word = {words.UK: "colour", words.US: "color"}[c.s.dialect]
    if c.rng.chance(0.6):
        c.fill("color", d=named(c.s, c.out, "light", words.SWITCHED), v=v, color=word, far="\0",
               the_room="\0")
        if "{d}" not in c.template:
            raise Skip
    else:
        slots = c.place(0.8)
        c.fill("color", v=v, color=word, d="\0", **slots)
        c.need_room(slots)
        if "{d}" in c.template:
            raise Skip
    put(c, action="set", device="light", value=name, unit="color")


def scene(c):
    name = c.rng.pick(sorted(SCENES))
    c.fill("scene:" + name)
    put(c, action="scene", scene=name)


def timer(c):
    text, value = span(c.rng)
    n, unit = value.split()
    one = text
    for many in ("minutes", "hours", "seconds"):
        one = one.replace(many, many[:-1])
    c.fill("timer", v=text, v1=one)
    put(c, action="set", device="timer", value=int(n), unit=unit)


def alarm(c):
    if c.rng.chance(0.75):
        text, value = clock(c.rng)
        c.fill("alarm_at", t=text)
        return put(c, action="set", device="alarm", at=value)
    text, value = span(c.rng)
    c.fill("alarm_in", t=text)
    put(c, action="set", device="alarm", **{"in": value})


def channel(c):
    n = 1 + c.rng.below(60)
    d = named(c.s, c.out, "tv", words.SWITCHED)
    c.fill("channel", d=d, v=number(c.rng, n))
    if "{d}" not in c.template:
        c.out.clear()
    put(c, action="set", device="tv", value=n, unit="channel")


def ask(c):
    kind = c.rng.pick(["ask_on"] * 6 + ["ask_open"] * 5 + ["ask_lock"] * 2 + ["ask_done"] * 3 +
                      ["ask_temperature"] * 4 + ["ask_humidity"] * 2 + ["ask_heating"] +
                      ["ask_light"] * 2 + ["ask_timer", "ask_alarm"])
    if kind in ("ask_temperature", "ask_humidity"):
        return with_place(c, kind, "ask", kind[4:], 0.75)
    if kind == "ask_on":
        device = c.rng.pick(sorted(words.ROOMED) + ["light"] * 5 + ["oven", "oven", "kettle",
                                                                    "coffee"])
        d = named(c.s, c.out, device, words.SWITCHED)
    elif kind in ("ask_open", "ask_lock"):
        device = "door" if kind == "ask_lock" else c.rng.pick(["blinds", "window", "window",
                                                               "garage", "door"])
        d = named(c.s, c.out, device, words.OPENED)
    elif kind == "ask_done":
        device = c.rng.pick(["washer", "dryer", "dishwasher", "vacuum"])
        d = "the " + c.s.say(words.SWITCHED[device])
    elif kind == "ask_heating":
        device, d = "heating", named(c.s, c.out, "heating", words.SWITCHED)
    elif kind == "ask_light":
        device = "light"
        if c.rng.chance(0.5):
            c.fill(kind, d=named(c.s, c.out, device, words.SWITCHED), far="\0")
            if "{d}" not in c.template:
                raise Skip
        else:
            c.fill(kind, d="\0", **c.place(0.7))
            if "{d}" in c.template:
                raise Skip
            if c.template.startswith(("which", "are any")) and not set(c.out) & {"room", "owner"}:
                put(c, room="all")
        return put(c, action="ask", device="light")
    else:
        c.fill(kind)
        return put(c, action="ask", device=kind[4:])
    c.fill(kind, d=d)
    put(c, action="ask", device=device)


def simple(intent, action, device):
    def make(c):
        c.fill(intent)
        put(c, action=action, device=device)
    return make


def placed(intent, action, device, chance=0.5):
    return lambda c: with_place(c, intent, action, device, chance)


def of_device(intent, action, device):
    def make(c):
        c.fill(intent, d=named(c.s, c.out, device, words.SWITCHED))
        put(c, action=action)
    return make


def light_feel(intent, action):
    def make(c):
        if c.rng.chance(0.5):
            c.fill(intent, d=named(c.s, c.out, "light", words.SWITCHED), far="\0", the_room="\0")
            if "{d}" not in c.template:
                raise Skip
        else:
            slots = c.place(0.6)
            c.fill(intent, d="\0", **slots)
            c.need_room(slots)
            if "{d}" in c.template:
                raise Skip
        put(c, action=action, device="light")
    return make


def washing(c):
    c.fill("washing")
    put(c, action="start", device=c.tail)
    c.text += timing(c.s, c.out, ["at", "in"], 0.3)


def vacuum(c):
    with_place(c, "vacuum", "start", "vacuum", 0.9)
    c.text += timing(c.s, c.out, ["at", "in"], 0.2)


def terse(c):
    """Words without grammar: 'kitchen lights 80', 'office fan off'."""
    room = c.rng.pick(sorted(set(words.ROOMS) - {"garage"}))
    word = c.s.say(words.ROOMS[room])
    device = c.rng.pick(["light", "light", "light", "heating", "fan"])
    name = c.s.say(words.SWITCHED[device])
    put(c, room=room, device=device)
    c.template = "terse"
    order = [word, name] if c.rng.chance(0.7) else [name, word]
    roll = c.rng.below(3)
    if roll == 0 and device != "fan":
        n = 1 + c.rng.below(100) if device == "light" else 12 + c.rng.below(15)
        c.text = " ".join(order + [number(c.rng, n)])
        return put(c, action="set", value=n, unit="%" if device == "light" else "deg")
    on = c.rng.chance(0.5)
    c.text = " ".join(order + ["on" if on else "off"])
    put(c, action="on" if on else "off")


INTENTS = (
    [lambda c: switched(c, True)] * 14 + [lambda c: switched(c, False)] * 14 +
    [lambda c: opened(c, True)] * 6 + [lambda c: opened(c, False)] * 6 +
    [lambda c: locked(c, True)] * 2 + [lambda c: locked(c, False)] * 2 + [start] * 4 + [stop] * 2 +
    [levels] * 11 + [lambda c: relative(c, True)] * 3 + [lambda c: relative(c, False)] * 3 +
    [by] * 4 + [heat_to] * 7 + [oven] * 2 + [color] * 5 + [scene] * 8 + [timer] * 5 + [alarm] * 5 +
    [channel] * 2 + [ask] * 12 + [terse] * 3 + [washing, washing, vacuum, vacuum] +
    [of_device("toggle", "toggle", "light")] + [of_device("toggle", "toggle", "fan")] +
    [light_feel("brighter", "raise")] * 2 + [light_feel("dimmer", "lower")] * 3 +
    [placed("warmer", "raise", "heating")] * 3 + [placed("cooler", "lower", "heating")] * 3 +
    [placed("dark", "on", "light", 0.8)] * 2 + [placed("all_off", "off", "all", 0.6)] * 2 +
    [placed("stuffy", "open", "window", 0.7)] + [placed("music", "on", "music")] +
    [placed("music_stop", "stop", "music")] + [simple("coffee", "start", "coffee")] +
    [simple("kettle", "start", "kettle")] + [simple("vacuum_stop", "stop", "vacuum")] +
    [simple("alarm_stop", "stop", "alarm")] + [simple("timer_stop", "stop", "timer")] +
    [of_device("quieter", "lower", "music")] + [of_device("louder", "raise", "music")] +
    [of_device("quieter", "lower", "tv")] + [of_device("louder", "raise", "tv")] +
    [simple("quieter_bare", "lower", "music")] + [simple("louder_bare", "raise", "music")] +
    [water, lambda c: (c.fill("water_stop", garden=c.s.say(words.ROOMS["garden"])),
                       put(c, action="stop", device="sprinkler"))]
)


def none(c):
    rng = c.rng
    c.fill("none", s=rng.pick(NONE_SUBJECTS), p=rng.pick(NONE_PEOPLE), n=str(1 + rng.below(99)),
           m=number(rng, 1 + rng.below(99)), t=lambda: clock(rng)[0], d=lambda: span(rng)[0])
    put(c, action="none")


def typo(rng, text):
    """One slip of the fingers, in a word of letters, never in what is copied or counted."""
    spots = [i for i in range(1, len(text) - 2) if text[i].isalpha() and text[i + 1].isalpha() and
             text[i - 1].isalpha()]
    if not spots:
        return text
    i = rng.pick(spots)
    kind = rng.below(4)
    if kind == 0:
        return text[:i] + text[i + 1] + text[i] + text[i + 2:]
    if kind == 1:
        return text[:i] + text[i + 1:]
    if kind == 2:
        return text[:i] + text[i] + text[i:]
    return text[:i] + rng.pick("abcdefghijklmnopqrstuvwxyz") + text[i + 1:]


def polite(s, text, force=False):
    rng = s.rng
    imperative = text.split(" ")[0].lower() in VERBS
    if force:
        if imperative and rng.chance(0.6):
            return rng.pick(POLITE_BEFORE) + text
        return text + rng.pick([" please", ", please", ", thank you", " please, thank you"])
    if rng.chance(0.35):
        before = rng.pick(BEFORE)
        if imperative or before not in IMPERATIVE_ONLY:
            if before == "would you mind ":
                return text
            text = before + text
    if rng.chance(0.2):
        text += rng.pick(AFTER)
    return text


def finish(s, text, owner):
    """Capitals, marks, slips: how it is written."""
    rng = s.rng
    if rng.chance(0.12) and not any(ch.isdigit() for ch in text):
        slip = typo(rng, text)
        if not owner or owner in slip.lower():
            text = slip
    roll = rng.below(10)
    if roll < 3:
        text = text[0].upper() + text[1:]
    elif roll == 3:
        text = text.lower()
    if rng.chance(0.2):
        question = text.lower().startswith(("is ", "are ", "what", "how", "did ", "can ", "could ",
                                            "would ", "will ", "which", "when", "who"))
        text += "?" if question else rng.pick([".", ".", "!"])
    return text


def ordered(out):
    return {k: out[k] for k in KEYS if k in out}


def combination(out):
    """What a test of unseen combinations is about."""
    what = (out.get("action"), out.get("device"), out.get("room"), out.get("value"))
    return zlib.crc32(repr(what).encode()) % 20 == 0 and \
        bool(out.get("room")) and (out.get("value") is not None or out.get("action") in
                                   ("on", "off", "open", "close", "ask", "raise", "lower"))


def held_out(intent, template):
    """About one template in twelve, of intents that have more than five."""
    return len(TEMPLATES[intent]) > 5 and \
        zlib.crc32((intent + template).encode()) % 12 == 0


def picker(which):
    def pick(intent, templates):
        mine = [t for t in templates if held_out(intent, t) == (which == "phrasings")]
        return mine if which == "phrasings" else (mine or templates)
    return pick


def command(s, which, intents=None):
    while True:
        c = Command(s, picker(which))
        try:
            s.rng.pick(intents or INTENTS)(c)
        except Skip:
            continue
        if "\0" in c.text or "{" in c.text or not c.text:
            continue
        if combination(c.out) != (which == "combos"):
            continue
        return c


JOIN = [" and ", " and ", " and then ", " then ", ", then ", ", and ", ". ", " and also ",
        ", also ", " plus "]


def sentence(s, which, force_polite=False):
    rng = s.rng
    share = {"phrasings": 0.1, "combos": 0.0}.get(which, 0.17)
    if rng.chance(share):
        c = Command(s, picker(which))
        none(c)
        text = polite(s, c.text, force_polite) if rng.chance(0.3) or force_polite else c.text
        return finish(s, text, None), {"action": "none"}
    first = command(s, which)
    text, answer = first.text, ordered(first.out)
    if which in ("train", "slice") and rng.chance(0.12):
        second = command(s, which)
        joint = rng.pick(JOIN)
        text, answer = text + joint + second.text, [answer, ordered(second.out)]
    owner = first.out.get("owner")
    return finish(s, polite(s, text, force_polite), owner), answer


def speaker(rng, which):
    if not which.startswith("slice:"):
        return Speaker(rng), False
    name = which[6:]
    if name in (words.UK, words.US):
        return Speaker(rng, dialect=name), False
    if name in words.NAMES:
        return Speaker(rng, names=name), False
    if name in ("polite", "plain"):
        return Speaker(rng), name == "polite"
    sys.exit(f"commands.py: no slice is called {name}")


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit("commands.py: usage: commands.py train|combos|phrasings|slice:NAME COUNT [SEED]")
    which, count = sys.argv[1], int(sys.argv[2])
    base = "slice" if which.startswith("slice:") else which
    if base not in ("train", "combos", "phrasings", "slice"):
        sys.exit(f"commands.py: no set is called {which}")
    seed = int(sys.argv[3]) if len(sys.argv) == 4 else 1
    rng = Rng(zlib.crc32(which.encode()) * 2654435761 + seed)
    seen = set()
    while len(seen) < count:
        s, force = speaker(Rng(rng.next()), which)
        text, answer = sentence(s, base, force)
        if text in seen or (which[6:] in words.NAMES and '"owner"' not in json.dumps(answer)):
            continue
        seen.add(text)
        print(json.dumps({"prompt": text, "answer": answer}, ensure_ascii=False,
                         separators=(",", ":")))


if __name__ == "__main__":
    main()
