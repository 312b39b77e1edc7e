# SPDX-License-Identifier: MIT
"""Words of the commands: what a house has, what is done with it, and how people call it.

A word's variants are by dialect: a plain string is everybody's, ("uk", ...) and ("us", ...) are
said by one of the two.
"""

UK, US = "uk", "us"

ROOMS = {
    "kitchen": ["kitchen"],
    "living room": ["living room", "lounge", "sitting room", "front room", "family room",
                    "livingroom"],
    "bedroom": ["bedroom", "master bedroom", "main bedroom"],
    "bathroom": ["bathroom", "shower room", "washroom", "bath"],
    "office": ["office", "study", "home office", "workroom"],
    "hallway": ["hallway", "hall", "corridor", "entrance", "entry", "entrance hall"],
    "dining room": ["dining room", "dining area"],
    "nursery": ["nursery", "kids room", "children's room", "kids' room", "baby's room", "playroom",
                "child's room"],
    "guest room": ["guest room", "spare room", "guest bedroom", "spare bedroom"],
    "garage": ["garage", "carport"],
    "garden": ["garden", "yard", "back yard", "backyard", "patio", "terrace"],
    "attic": ["attic", "loft"],
    "basement": ["basement", "cellar"],
    "balcony": ["balcony"],
    "stairs": ["stairs", "staircase", "stairway", "landing", "stairwell"],
}
# Rooms that one is on rather than in.
ON = {"balcony", "stairs", "patio", "terrace", "landing"}
EVERYWHERE = ["everywhere", "in the whole house", "in every room", "in all rooms",
              "all over the house", "throughout the house", "in the entire house",
              "all around the house"]

# Names from many places, for rooms that are somebody's.
NAMES = {
    "english": (
        "emma jack olivia harry grace oliver lily george ruby alfie ella charlie "
        "daisy thomas sophie james lucy william alice henry megan ben kate sam "
        "tom anna luke molly adam zoe peter susan robert karen").split(),
    "hispanic": (
        "maria jose carmen diego lucia carlos sofia miguel elena javier valentina "
        "pablo camila andres isabel fernando paula ricardo daniela jorge rosa "
        "luis marta juan pilar raul").split(),
    "arabic": (
        "aisha omar fatima ahmed layla yusuf mariam hassan zainab khalid noor "
        "ibrahim amira ali salma tariq huda karim rania samir yasmin mustafa "
        "leila bilal nadia").split(),
    "indian": (
        "priya arjun ananya rohan diya vikram kavya aditya meera sanjay lakshmi "
        "rahul pooja anil nisha ravi sunita deepak asha kiran neha suresh divya "
        "vijay").split(),
    "chinese": (
        "wei mei jun li xiao hui ming yan jing hao lan feng ying bo xin tao qing "
        "lei fang chen yi ling kai na").split(),
    "african": (
        "amara kwame zola chidi nia kofi imani jabari ayana tunde sade obi adaeze "
        "femi thandi sipho makena ekon zuri bayo ama lwazi abena chike").split(),
    "slavic": (
        "ivan olga dmitri katya pavel natasha boris irina mikhail svetlana jakub "
        "zofia marek ania petr jana milos vesna tomasz lenka igor vera oksana "
        "andrij").split(),
    "nordic": (
        "lars ingrid jonas astrid erik freya nils sigrid anders helga magnus liv "
        "bjorn karin sven maja oskar elsa gustav saga").split(),
}

# What can be switched on and off: device: (words, plural words)
SWITCHED = {
    "light": ["light", "lights", "lamp", "lamps", "ceiling light", "lighting", "bulb",
              "light bulb", "main light", "overhead light", "floor lamp"],
    "heating": ["heating", "heater", "radiator", "heat", "radiators", "central heating"],
    "fan": ["fan", "ceiling fan", "ventilator", "extractor fan"],
    "ac": ["air conditioning", "ac", "air con", "air conditioner", "aircon", "a/c", "cooling"],
    "humidifier": ["humidifier", "air humidifier"],
    "purifier": ["air purifier", "purifier", "air filter", "air cleaner"],
    "tv": ["tv", "television", ("uk", "telly"), "tv set", "big screen"],
    "music": ["music", "speaker", "speakers", "stereo", "sound system", "sound"],
    "radio": ["radio"],
    "oven": ["oven", "stove", "cooker"],
    "kettle": ["kettle", "electric kettle"],
    "coffee": ["coffee machine", "coffee maker", "espresso machine", "coffee pot"],
    "plug": ["plug", "socket", "outlet", "power strip", "smart plug", "wall socket"],
    "camera": ["camera", "security camera", "cam", "webcam", "video camera"],
    "security": ["alarm system", "security system", "burglar alarm", "house alarm", "security"],
    "dishwasher": ["dishwasher"],
    "washer": ["washing machine", "washer", "laundry machine"],
    "dryer": ["dryer", "tumble dryer", "clothes dryer"],
    "sprinkler": ["sprinkler", "sprinklers", "lawn sprinkler", "irrigation"],
    "vacuum": ["vacuum", "vacuum cleaner", "robot vacuum", "robot", ("uk", "hoover")],
}
# Where they are, if it matters.
ROOMED = {"light", "heating", "fan", "ac", "humidifier", "purifier", "tv", "music", "radio",
          "plug", "camera"}
RUN = {"dishwasher", "washer", "dryer", "sprinkler", "vacuum", "coffee", "kettle"}
OPENED = {
    "blinds": ["blinds", "blind", "curtains", "curtain", "shutters", "shades", "roller blinds",
               "drapes", "venetian blinds", "window blinds"],
    "window": ["window", "windows", "skylight"],
    "garage": ["garage", "garage door", "garage gate"],
    "door": ["door", "front door", "back door", "main door", "side door", "patio door", "gate"],
}
COLORS = {
    "red": ["red"], "blue": ["blue"], "green": ["green"], "yellow": ["yellow"],
    "purple": ["purple", "violet"], "pink": ["pink"], "orange": ["orange"],
    "white": ["white"], "warm white": ["warm white"], "cold white": ["cold white", "cool white"],
    "turquoise": ["turquoise"], "gold": ["gold", "golden"],
    "grey": [("uk", "grey"), ("us", "gray")],
}
