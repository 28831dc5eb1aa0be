"""Children's tales from a stochastic grammar, with the facts that questions ask about.

A tale is an opening, a trait, one plot (a list of beats, each with several
variants) and an ending. All sentences are filled from one dictionary, so names,
pronouns and things stay consistent; every variant of a beat leads to every variant of the next.
"""
from words import BOYS, COLOURS, FOODS, GIRLS, KINDS, PLACES, THINGS

OPEN = [
    "Once upon a time, there was a {small} {k} named {n} who lived {in_p}.",
    "Once upon a time, a {small} {k} named {n} lived {in_p}.",
    "Once upon a time, {in_p}, there lived a {small} {k}. {His} name was {n}.",
    "Long ago, there was a {small} {k} named {n}. {He} lived {in_p}.",
    "{n} was a {small} {k} who lived {in_p}.",
    "There once was a {small} {k} called {n}, and {he} lived {in_p}.",
    "In a {small} house {in_p} lived a {k} named {n}.",
    "One day, a {small} {k} named {n} woke up early in {his} house {in_p}.",
]
TRAIT = {
    "kind": ["{n} was very kind, and everyone liked {him}.", "{He} was kind and always had a warm word for others.",
             "{He} had a kind heart and loved to help."],
    "curious": ["{n} was curious and asked questions all day long.", "{He} was so curious that {he} looked under every stone.",
                "{He} wanted to know how everything worked."],
    "shy": ["{n} was shy and did not talk much.", "{He} was so shy that {he} often hid behind a tree.",
            "{He} was a little shy, but {he} had a brave heart."],
    "brave": ["{n} was brave and not afraid of the dark.", "{He} was the bravest {k} of them all.",
              "{He} was small, but {he} was very brave."],
    "cheerful": ["{n} was always cheerful and sang all day.", "{He} liked to laugh and to sing.",
                 "{He} smiled at everyone {he} met."],
    "proud": ["{n} was a little proud and liked to be the best.", "{He} was proud and did not like to ask for help.",
              "{He} thought that {he} knew everything."],
    "clever": ["{n} was clever and loved to solve puzzles.", "{He} was the cleverest {k} around.",
               "{He} always had a good idea."],
    "sleepy": ["{n} was often sleepy and loved {his} warm bed.", "{He} liked to sleep until noon.",
               "{He} could fall asleep anywhere, even on a stone."],
}
LIKES = ["{n} loved {food} more than anything.", "Every morning {he} ate {food} and looked out of the window.",
         "{His} favorite food was {food}.", "{He} liked to play in the sun and to eat {food}."]
DAY = ["One {weather} morning,", "One day,", "One {weather} day,", "Then, one {weather} afternoon,", "One {weather} evening,"]

# name -> (what happens, beats, morals). {f} is the helper, a {fk}; {o} the thing, {c} its color.
PLOTS = {
    "lost": ("lost the {c} {o}", [
        ["{day} {n} could not find {his} {c} {o}.", "{day} {n} saw that {his} {c} {o} was gone.",
         "{day} {n} lost {his} {c} {o} on the way home."],
        ["{He} looked under the bed and behind the door, but it was not there.", "{He} looked everywhere, but {he} could not find it.",
         "{He} searched high and low until {his} feet were tired."],
        ["{n} sat down and began to cry.", "{n} felt very sad.", "\"Oh no, where can it be?\" said {n}."],
        ["A {fk} named {f} came by and asked, \"Why are you sad?\"", "Just then, a {fk} named {f} came along the path. \"What is wrong?\" asked {f}.",
         "{f} the {fk} heard {him}. \"I will help you,\" said {f}."],
        ["\"I lost my {o},\" said {n}. So they looked for it together.", "{n} told {f} about the {o}, and they began to search together.",
         "\"My {c} {o} is gone,\" said {n}. \"Then let us look for it,\" said {f}."],
        ["At last, {f} found the {o} {found}.", "After a long time, they saw something {c} {found}. It was the {o}!",
         "They looked {found}, and there was the {c} {o}."],
        ["{n} was so happy that {he} hugged {f}.", "\"Thank you!\" said {n}, and {he} jumped for joy.", "{n} laughed and thanked {f} again and again."],
    ], ["Two friends find more than one.", "It is good to ask for help.", "A friend who helps you is worth more than gold."]),
    "storm": ("was caught in a storm", [
        ["{day} {n} went for a walk far from home.", "{day} {n} walked to the other side of the {p} to look for {food}.",
         "{day} {n} went out to play with {his} {c} {o}."],
        ["Suddenly the sky turned dark and the wind began to blow.", "Soon big gray clouds came, and it began to rain.",
         "Then there was a loud boom. A storm was coming!"],
        ["{n} was cold and wet, and {he} did not know where to go.", "The rain fell so hard that {n} could not see the path.",
         "{n} was afraid and hid under a bush."],
        ["Then {he} saw a light. It was the house of {f}, an old {fk}.", "\"Come in, quick!\" called a voice. It was {f}, a friendly {fk}.",
         "A {fk} named {f} opened a door in a tree and waved to {him}."],
        ["{f} gave {n} a warm blanket and a bowl of soup.", "Inside it was warm, and {f} made hot tea for both of them.",
         "{f} let {n} sit by the fire until {he} was dry."],
        ["They told each other stories until the storm was over.", "They played games all night and listened to the rain.",
         "The storm roared outside, but inside they laughed and sang."],
        ["In the morning the sun was shining, and {n} went home with a new friend.", "The next day the sky was blue again. \"Thank you, {f},\" said {n}.",
         "When the rain stopped, {f} walked home with {n}."],
    ], ["After every storm, the sun comes back.", "A warm home is best when it is shared.", "New friends can be found in bad weather."]),
    "share": ("shared the {food}", [
        ["{day} {n} found a big basket of {food}.", "{day} {n} got a large plate of {food} from {his} grandmother.",
         "{day} {n} came home with a bag full of {food}."],
        ["\"All of this is mine,\" said {n}, and {he} hid it in {his} house.", "{n} did not want to share it with anyone.",
         "{n} wanted to eat it all alone."],
        ["Then {f} the {fk} knocked at the door. \"I am so hungry,\" said {f}.", "Soon a hungry {fk} named {f} came by. \"Do you have something to eat?\" asked {f}.",
         "On the road sat a {fk} named {f} who had nothing to eat."],
        ["{n} looked at the {food} and then at {f}.", "{n} thought about it for a long time.", "At first {n} wanted to say no, but {f} looked so sad."],
        ["\"Come and eat with me,\" {he} said at last.", "Then {n} gave half of the {food} to {f}.", "\"There is enough for two,\" said {n} with a smile."],
        ["They sat in the grass and ate the {food} together.", "They ate until they were full, and the {food} tasted better than ever.",
         "{f} was so glad that {fhe} danced around the table."],
        ["The next day {f} came back with a {c} {o} as a gift.", "To say thank you, {f} gave {n} a {c} {o}.", "{f} never forgot it and brought {n} a {c} {o}."],
    ], ["Food tastes best when it is shared.", "If you give, you will get something back.", "Sharing makes a small meal big."]),
    "dark": ("was afraid of the dark", [
        ["{day} {n} had to walk home through the dark woods.", "{day} {n} stayed out too long, and night came.",
         "{day} {n} heard a strange sound in the dark."],
        ["{n} was afraid, for {he} could see only shadows.", "\"Who is there?\" asked {n} in a small voice.", "{His} knees began to shake."],
        ["Two big eyes looked at {him} from a tree.", "Something moved behind a bush.", "Something went crack, and then it was quiet again."],
        ["But it was only {f}, a little {fk}, who was afraid too.", "Then a {fk} named {f} stepped out. \"Please do not be afraid,\" said {f}.",
         "\"It is only me, {f} the {fk},\" said a soft voice."],
        ["\"Let us walk together,\" said {n}.", "\"I have a {c} {o} that makes me brave,\" said {n}. \"You can hold it.\"", "{n} gave {f} {his} hand, and they walked on side by side."],
        ["They sang a song, and soon the dark did not look so dark.", "The moon came out and showed them the way.", "They counted the stars and forgot to be afraid."],
        ["Before long they were home and safe.", "When they saw the lights of the {p}, they cheered.", "At home, {n} slept well and dreamed of stars."],
    ], ["Nobody is afraid for long with a friend.", "The dark is only the day with its eyes closed.", "Being brave means to go on when you are afraid."]),
    "race": ("ran a race", [
        ["{day} there was a big race around the {p}.", "{day} all the animals met for a race.", "{day} {n} heard that there would be a race."],
        ["The prize was a {c} {o}.", "The winner would get a {c} {o}.", "Everyone wanted to win the {c} {o}."],
        ["\"I will win,\" said {n}, and {he} ran as fast as {he} could.", "{n} was not the fastest, but {he} wanted to try.", "\"One, two, three, go!\" and {n} ran off."],
        ["On the way {he} saw {f}, a {fk}, who had hurt {fhis} leg.", "Half way, a {fk} named {f} fell into a ditch.", "Near the end, {f} the {fk} fell down and could not get up."],
        ["All the others ran past, but {n} stopped.", "{n} could have run on, but {he} turned around.", "{n} forgot the race and ran to help."],
        ["{He} helped {f} up, and they walked to the end together.", "{He} carried {f} all the way to the finish.", "Side by side, they crossed the line last of all."],
        ["But everyone clapped, and {n} got the {o} for {his} good heart.", "\"You are the real winner,\" said {f}, and the {o} was given to {n}.",
         "They did not win, but the others cheered, and {n} was given the {c} {o}."],
    ], ["A good heart is better than fast feet.", "Helping is the best way to win.", "It is not always the fastest who wins."]),
    "bird": ("helped a baby bird", [
        ["{day} {n} found a baby bird in the grass.", "{day} {n} heard a small cry under a tree. It was a baby bird.", "{day} a baby bird fell out of its nest, right in front of {n}."],
        ["\"Peep, peep,\" said the bird. It could not fly yet.", "The bird was tiny and shook with cold.", "It looked up at {n} with big eyes."],
        ["{n} put it in {his} {o} to keep it warm.", "{n} made a soft bed for it in a {c} {o}.", "{n} gave it some water and kept it warm."],
        ["But the nest was high up in the tree, and {n} could not climb.", "\"How can we get up there?\" thought {n}, for the nest was very high.", "{n} tried to reach the nest, but {he} was too small."],
        ["So {he} asked {f}, a {fk} who lived near.", "Then {f} the {fk} came by and saw them.", "{He} ran to get {f}, a strong {fk}."],
        ["{n} stood on the back of {f} and put the bird into the nest.", "{f} had a long ladder, and together they brought the bird home.", "{f} lifted {n} up, and {he} set the bird down next to its mother."],
        ["The mother bird sang her best song for them.", "From that day on, the bird sang for {n} every morning.", "\"Thank you,\" sang the birds, and {n} was very proud."],
    ], ["Even the smallest one needs a friend.", "Small help can be very big for someone else.", "Be gentle with those who are small."]),
    "gift": ("made a gift for {f}", [
        ["{day} {n} remembered that it was the birthday of {f} the {fk}.", "{day} {f}, a {fk} who lived next door, had a birthday.", "{day} {n} wanted to make a gift for {his} friend {f}, a {fk}."],
        ["But {n} had no money to buy a gift.", "\"What can I give?\" thought {n}.", "{n} looked around, but {he} could find nothing good enough."],
        ["So {he} began to make a {c} {o}.", "Then {he} had an idea. {He} would make a {c} {o}!", "\"I will make a {c} {o} with my own hands,\" said {n}."],
        ["{He} worked all day and all night.", "It was hard work, and {he} had to start again three times.", "{He} cut and glued and painted until it was done."],
        ["When it was ready, it was not perfect.", "It looked a little crooked, but it was full of love.", "{n} was not sure if {f} would like it."],
        ["But when {f} opened the box, {fhe} cried with joy.", "\"This is the best gift of all,\" said {f}.", "{f} held the {o} high and showed it to everyone."],
        ["They ate {food} and danced until the moon was high.", "Then they ate {food} together and sang a birthday song.", "{f} kept the {c} {o} for the rest of {fhis} life."],
    ], ["A gift made with love is the best gift.", "It is the thought that counts.", "Love is worth more than money."]),
    "map": ("followed a map", [
        ["{day} {n} found an old map {found}.", "{day} the wind blew an old map to the feet of {n}.", "{day} {n} opened an old book, and a map fell out."],
        ["It showed the way to a treasure.", "A big X was drawn on it.", "\"A treasure map!\" cried {n}."],
        ["{He} asked {f} the {fk} to come along.", "{n} showed it to {his} friend {f}, a {fk}, and they set off at once.", "\"May I come too?\" asked a {fk} named {f}. \"Of course,\" said {n}."],
        ["They walked over a bridge and through a deep valley.", "They crossed a cold river and climbed a steep hill.", "The way was long, and they had only some {food} to eat."],
        ["When they were tired, they sat down and told jokes.", "Once they got lost, but {f} read the map and found the way.", "At night they slept under the stars."],
        ["At last they came to the X and dug in the ground.", "Then they saw a big tree with an X on it, and they began to dig.", "At the end of the path they found a small chest."],
        ["Inside was a {c} {o}. \"We will share it,\" said {n}.", "They found a {c} {o}, and they laughed, for the trip had been the real treasure.",
         "In it lay a {c} {o}, and they took turns to carry it home."],
    ], ["The best treasure is a good friend.", "A long way is short with a friend.", "Sometimes the way is the treasure."]),
    "lie": ("told a lie", [
        ["{day} {n} broke the {c} {o} of {f}, a {fk}.", "{day} {n} played with the {c} {o} of {his} friend {f}, a {fk}, and it broke.",
         "{day} {n} dropped the {c} {o} that belonged to {f} the {fk}."],
        ["{n} was afraid and hid it {found}.", "Nobody saw it, so {n} ran away.", "\"Nobody must know,\" thought {n}."],
        ["When {f} asked about it, {n} said, \"I did not see it.\"", "\"Do you know where my {o} is?\" asked {f}. \"No,\" said {n}.", "\"It was the wind,\" said {n}, when {f} asked."],
        ["But that night {n} could not sleep.", "But the lie felt like a stone in {his} belly.", "From then on, {n} could not eat or play."],
        ["In the morning {he} went to {f} and told the truth.", "At last {he} went back. \"It was me,\" {he} said. \"I am sorry.\"", "\"I must tell the truth,\" thought {n}, and {he} ran to {f}."],
        ["{f} was quiet for a moment, and then {fhe} smiled.", "\"Thank you for telling me,\" said {f}.", "{f} was not angry at all. \"It was brave to tell me,\" {fhe} said."],
        ["Together they fixed the {o}, and it was almost as good as new.", "They mended the {o} with glue and stayed friends.", "Then they made a new {o}, and {n} felt light again."],
    ], ["The truth is always the best way.", "A lie is heavy, but the truth is light.", "Good friends forgive each other."]),
    "friend": ("found a new friend", [
        ["{day} a new neighbor came to the {p}.", "{day} someone moved into the empty house next to {n}.", "{day} {n} saw smoke from the old house on the corner."],
        ["It was {f}, a {fk} with a {c} {o}.", "Her name was {f}, and she was a {fk}." , "The new neighbor was a {fk} named {f}."],
        ["The others said, \"We do not know {fhim}. Stay away!\"", "Nobody said hello, for {f} looked different.", "{f} sat alone all day and looked sad."],
        ["But {n} wanted to be friendly.", "\"That is not right,\" thought {n}.", "{n} thought about how lonely {f} must be."],
        ["{He} packed some {food} and knocked at the door.", "So {he} walked over and said, \"Hello! Do you want to play?\"", "{He} took {his} ball and asked {f} to play."],
        ["{f} smiled for the first time.", "\"I would love to,\" said {f}.", "\"Nobody has asked me before,\" said {f} with a smile."],
        ["They played until evening, and soon the others came to play too.", "After that day, they were the best of friends.", "Soon all the others wanted to be friends with {f} too."],
    ], ["A kind word can make a friend.", "Say hello, and you may find a friend.", "Those who look different can be the best friends."]),
    "garden": ("grew a garden", [
        ["{day} {n} planted some seeds behind {his} house.", "{day} {n} wanted to grow {his} own garden.", "{day} {n} got a bag of seeds from an old {fk} named {f}."],
        ["{He} gave them water, but nothing came up.", "Every day {he} looked, but there was only brown earth.", "{He} waited for a day and then for a week, but nothing grew."],
        ["\"I give up,\" said {n}.", "{n} was sad and kicked the ground.", "\"These seeds are no good,\" said {n}."],
        ["But {f} the {fk} said, \"You must wait. Good things take time.\"", "\"Do not give up,\" said {f}, an old {fk}. \"Seeds sleep before they wake.\"",
         "Then {f}, a wise {fk}, told {him} to wait a little more."],
        ["So {n} watered the seeds every morning and sang to them.", "{n} tried again and pulled out all the weeds.", "{n} took {his} {c} {o} and sat by the garden each day."],
        ["One morning there was a small green leaf!", "Then, after some rain, tiny leaves came out.", "At last, the garden was full of green."],
        ["In the summer {n} had so many flowers that {he} gave some to {f}.", "Soon there was enough for everyone, and {n} made a big meal for {f}.", "{n} picked the first flower and gave it to {f}."],
    ], ["Good things take time.", "If you wait and work, your garden will grow.", "Do not give up too soon."]),
    "bridge": ("fixed the bridge", [
        ["{day} the old bridge by the {p} broke.", "{day} the wind broke the only bridge over the river.", "{day} {n} came to the river, but the bridge was gone."],
        ["On the other side stood {f}, a {fk}, who could not get home.", "\"Help!\" called {f}, a {fk} on the other side. \"I cannot get home!\"",
         "A {fk} named {f} stood on the other side and cried."],
        ["\"Wait, I will help you,\" called {n}.", "{n} thought hard about what to do.", "\"There must be a way,\" said {n}."],
        ["{He} tied a long rope to {his} {o} and threw it over the water.", "{He} found a long log, but it was too heavy for one.", "{He} began to put stones into the water, one by one."],
        ["It was hard work, and the water was cold.", "Soon other animals came and helped too.", "{n} worked until {his} hands were sore."],
        ["In the evening there was a new bridge.", "At last, the bridge was ready.", "When the sun went down, the way was free again."],
        ["{f} walked over and gave {n} a big hug.", "{f} crossed the river and shared {fhis} {food} with {n}.", "\"You are a hero,\" said {f}, and everyone cheered for {n}."],
    ], ["Where there is a will, there is a way.", "Many hands make light work.", "Nothing is too hard if you try."]),
}
PLOTS["friend"][1][1][1] = "Inside lived a {fk}, and {fhis} name was {f}."

END = ["And they lived happily ever after.", "And from that day on, they were best friends.", "That night, {n} fell asleep with a smile.",
       "The end.", "And if you go to the {p}, you may still see them there.", "{n} never forgot that day."]
FOUND = ["under an old tree", "behind a big stone", "in the tall grass", "next to the well", "in a hollow log", "under the bridge", "behind the barn"]
WEATHER = "sunny rainy windy cold warm snowy foggy bright quiet".split()
SMALL = "little small young tiny".split()
IN = {"island": "on an island", "mountain": "on a mountain", "hill": "on a hill", "farm": "on a farm", "beach": "at the beach",
      "harbor": "near the harbor", "river": "by the river", "lake": "by a lake", "orchard": "in an orchard", "mill": "near the old mill",
      "castle": "in a castle", "tower": "in a tall tower", "cave": "in a cave", "meadow": "in the green meadow", "forest": "in the deep forest"}
FORMS = {"f": ("she", "her", "her"), "m": ("he", "him", "his")}


class Tale:
    def __init__(self, d, kind=None, name=None, place=None, thing=None, short=False):
        g = d.pick("fm")
        if name in GIRLS or name in BOYS:
            g = "f" if name in GIRLS else "m"
        self.name = name or (d.fresh().capitalize() if d.chance(0.2) else d.pick(GIRLS if g == "f" else BOYS))
        fg = d.pick("fm")
        self.friend = self.name
        while self.friend == self.name:
            self.friend = d.fresh().capitalize() if d.chance(0.1) else d.pick(GIRLS if fg == "f" else BOYS)
        self.kind = kind or d.pick(KINDS + ["girl" if g == "f" else "boy"] * 3)
        self.friend_kind = self.kind
        while self.friend_kind == self.kind:
            self.friend_kind = d.pick(KINDS)
        self.place, self.thing, self.colour = place or d.pick(PLACES), thing or d.pick(THINGS), d.pick(COLOURS)
        self.food, self.plot, self.trait = d.pick(FOODS), d.pick(list(PLOTS)), d.pick(list(TRAIT))
        he, him, his = FORMS[g]
        fhe, fhim, fhis = FORMS[fg]
        s = {"n": self.name, "k": self.kind, "p": self.place, "o": self.thing, "c": self.colour, "food": self.food, "f": self.friend,
             "fk": self.friend_kind, "he": he, "him": him, "his": his, "He": he.capitalize(), "His": his.capitalize(), "fhe": fhe,
             "fhim": fhim, "fhis": fhis, "small": d.pick(SMALL), "in_p": IN.get(self.place, f"in a {self.place}"),
             "found": d.pick(FOUND), "weather": d.pick(WEATHER)}
        s["day"] = d.pick(DAY).format(**s)
        what, beats, morals = PLOTS[self.plot]
        self.event = what.format(**s)
        head = [d.pick(OPEN), d.pick(TRAIT[self.trait])]
        if not short and d.chance(0.5):
            head.append(d.pick(LIKES))
        body = [d.pick(b) for b in beats]
        tail = [d.pick(END)] if d.chance(0.5) else []
        if d.chance(0.6):
            tail.insert(0, d.pick(["{n} learned something that day: ", "So remember: ", ""]) + d.pick(morals))
        cut = d.pick((2, 3, 4))
        groups = [head + body + tail] if short else [head, body[:cut], body[cut:] + tail]
        gap = " " if short else d.pick(["\n\n", "\n\n", " "])
        self.text = gap.join(" ".join(p) for p in groups).format(**s)
        # An indefinite article before a vowel.
        for v in "aeiouAEIOU":
            self.text = self.text.replace(f" a {v}", f" an {v}").replace(f"A {v}", f"An {v}")

    def questions(self, d):
        """[(question, answer)], answers copied from the tale."""
        q = [(d.pick(["Who is the story about?", "What is the name of the hero?", "Who is the hero of the story?"]), self.name),
             (d.pick([f"What kind of animal is {self.name}?", f"What is {self.name}?"]) if self.kind not in ("girl", "boy") else f"What is {self.name}?", a_an(self.kind)),
             (d.pick([f"Where does {self.name} live?", f"Where did {self.name} live?", "Where does the story take place?"]), IN.get(self.place, f"in a {self.place}")),
             (d.pick([f"What is {self.friend}?", f"What kind of animal is {self.friend}?"]), a_an(self.friend_kind)),
             (d.pick(["Who else is in the story?", f"Who did {self.name} meet?", "Who is the friend?"]), self.friend)]
        if f"{self.colour} {self.thing}" in self.text:
            q.append((f"What color is the {self.thing}?", self.colour))
        return q


def a_an(w):
    return ("an " if w[0] in "aeiou" else "a ") + w


def sentence(w):
    return w[0].upper() + w[1:] + "."
