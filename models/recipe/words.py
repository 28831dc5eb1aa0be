"""Word lists, and the draw that keeps held-out names and values apart from the training ones."""
import zlib

GIRLS = ("Mia Lily Anna Ella Nora Rosa Lucy Emma Zoe Ruby Clara Ivy Maya Tess Hazel Nina Sofia Alma Ada Wren Pippa Olive "
         "Greta Freya Tilda Juno Elsa Vera Daisy Mabel").split()
BOYS = ("Tom Ben Max Leo Sam Finn Otto Hugo Theo Jack Noah Milo Oscar Felix Toby Jonas Emil Arlo Rufus Barnaby Anton Hal "
        "Kai Ivan Pablo Remy Gus Ned Basil Walter").split()
KINDS = "fox rabbit bear mouse owl duck hedgehog squirrel cat dog frog turtle deer badger otter pony lamb goat hen beaver".split()
PLACES = ("forest meadow valley village garden farm mountain river lake island castle mill harbor orchard cave hill town "
          "marsh beach tower").split()
THINGS = ("lantern kite basket drum bell blanket boat wheel hat scarf ring key map book cup flute ladder rope mirror shell "
          "feather button spoon candle whistle pebble ribbon box coin ball").split()
COLOURS = "red blue green yellow purple orange white black silver golden pink brown gray".split()
FOODS = "bread cheese soup honey apples berries cake porridge carrots nuts pears cookies pie plums corn mushrooms".split()
CITIES = ("Paris London Rome Oslo Cairo Lima Tokyo Berlin Madrid Dublin Vienna Prague Athens Delhi Boston Quito Lisbon "
          "Helsinki Warsaw Sydney Havana Nairobi Toronto Zurich Kyoto Bergen").split()
JOBS = "baker teacher farmer sailor doctor painter pilot tailor singer gardener miller nurse potter driver writer".split()
PETS = "cat dog parrot hamster goldfish pony rabbit turtle canary snake".split()
WILD = "lion tiger elephant zebra wolf eagle shark whale camel monkey penguin crocodile spider bee giraffe parrot".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
SECRETS = ("anchor apricot arrow autumn barrel beacon blossom breeze bridge bronze butter cabin canyon carpet cedar cherry "
           "clover cobalt comet copper coral cotton cricket crystal dragon eagle ember falcon fiddle flint forest fossil "
           "galaxy ginger glacier granite hammer harvest helmet hollow ivory jasmine jungle kettle ladder lagoon lantern "
           "lemon lilac magnet mango maple marble meadow melon mirror mitten nectar needle nutmeg oasis ocean olive orchid "
           "oyster palace paper parrot pepper pillow planet pocket prairie pumpkin puzzle quartz rabbit raven river rocket "
           "saddle sapphire shadow silver sparrow spruce summer sunset swallow temple thunder timber tulip tunnel turnip "
           "valley velvet violet walnut whisper willow window winter wizard yarrow zephyr").split()
SUBJECTS = "moon train garden river piano chess bread storm rocket island market school desert bicycle library".split()
UNITS = "apples pears coins shells eggs books marbles buttons stones nuts stamps cards".split()

ONSET = "b d f g k l m n p r s t v z br dr gr kr pl tr st sh th ch j w h y".split()
VOWEL = "a e i o u a e i o ai ea oo".split()
CODA = ["", "", "", "n", "l", "r", "s", "m", "k", "t", "x", "nd", "sh"]


def reserved(*parts):
    """One combination in eight is kept for the held-out sets."""
    return zlib.crc32("|".join(map(str, parts)).encode()) % 8 == 0


def made_up(r, syllables=None):
    return "".join(r.choice(ONSET) + r.choice(VOWEL) + r.choice(CODA) * (r.random() < 0.6)
                   for _ in range(syllables or r.choice((2, 2, 2, 3))))


class Draw:
    """A random source bound to one side: training or held-out."""

    def __init__(self, r, heldout=False):
        self.r, self.heldout = r, heldout

    def pick(self, seq):
        return seq[int(self.r.random() * len(seq))]

    def chance(self, p):
        return self.r.random() < p

    def number(self, a, b):
        return self.r.randint(a, b)

    def some(self, seq, k):
        return self.r.sample(list(seq), k)

    def fresh(self):
        """A made-up word of this side."""
        while True:
            w = made_up(self.r)
            if reserved(w) == self.heldout:
                return w

    def name(self, invented=0.5):
        return self.fresh().capitalize() if self.chance(invented) else self.pick(self.pick((GIRLS, BOYS)))

    def names(self, k, invented=0.5):
        out = []
        while len(out) < k:
            n = self.name(invented)
            if n not in out:
                out.append(n)
        return out

    def secret(self, invented=0.3):
        return self.fresh() if self.chance(invented) else self.pick(SECRETS)

    def value(self, key, make):
        """make() until its combination with key belongs to this side."""
        for _ in range(200):
            v = make()
            if reserved(key, v) == self.heldout:
                return v
        return v
