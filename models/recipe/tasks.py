"""Conversations: questions, arithmetic, chat, rules, recall, copying, thinking.

Every maker takes a Draw and returns a case: {"kind", "messages", "tools"?, "expect"}.
The last message is the answer; "expect" is what a checker compares with.
"""
from tales import Tale, a_an, sentence
from words import (CITIES, COLOURS, DAYS, FOODS, JOBS, KINDS, MONTHS, PETS, PLACES, SECRETS, SUBJECTS, THINGS, UNITS, WILD)

KNOWN = [("What color is the sky?", "blue"), ("What color is grass?", "green"), ("What color is snow?", "white"), ("What color is a lemon?", "yellow"),
         ("What do bees make?", "honey"), ("What do cows give?", "milk"), ("What shines at night?", "moon"), ("What is the opposite of hot?", "cold"),
         ("What is the opposite of big?", "small"), ("What is the opposite of day?", "night"), ("What is the opposite of up?", "down"),
         ("What animal says meow?", "cat"), ("What animal says woof?", "dog"), ("What animal says moo?", "cow"), ("Where do fish live?", "water"),
         ("How many days are in a week?", "seven"), ("How many legs does a dog have?", "four"), ("How many legs does a spider have?", "eight"),
         ("What falls from clouds?", "rain"), ("What do we use to cut paper?", "scissors"), ("What season is the coldest?", "winter"),
         ("What season is the warmest?", "summer"), ("What do birds build?", "nests"), ("What do you wear on your feet?", "shoes")]
GREET = [("Hello!", "Hello! How can I help you?"), ("Hi!", "Hi! What can I do for you?"), ("Good morning.", "Good morning! How are you today?"),
         ("How are you?", "I am fine, thank you."), ("Thank you.", "You are welcome."), ("Thanks!", "You are welcome."),
         ("Good night.", "Good night! Sleep well."), ("Who are you?", "I am a small model that tells stories."),
         ("What can you do?", "I can tell stories, answer questions, add numbers and call tools."), ("Goodbye.", "Goodbye! See you soon.")]


def user(t):
    return {"role": "user", "content": t}


def bot(t, think=None):
    m = {"role": "assistant", "content": t}
    if think:
        m["reasoning_content"] = think
    return m


def system(t):
    return {"role": "system", "content": t}


def case(kind, messages, expect=None, tools=None):
    c = {"kind": kind, "messages": messages, "expect": messages[-1]["content"] if expect is None else expect}
    if tools:
        c["tools"] = tools
    return c


# --- stories -------------------------------------------------------------------------------------

def chat_story(d):
    k, o, p, n = d.pick(KINDS), d.pick(THINGS), d.pick(PLACES), d.name(0.2)
    ask, given = d.pick([
        ("Tell me a story.", {}), (f"Tell me a story about {a_an(k)}.", {"kind": k}), (f"Tell me a story about {a_an(k)} named {n}.", {"kind": k, "name": n}),
        (f"Write a short story about {a_an(k)}.", {"kind": k, "short": True}), (f"Please tell me a tale about {n}.", {"name": n}),
        (f"Tell me a story about {a_an(k)} in {a_an(p)}.", {"kind": k, "place": p}), ("Can you tell me a story?", {}), ("Tell me a short story.", {"short": True}),
    ])
    t = Tale(d, **given)
    m = [user(ask), bot(t.text)]
    if d.chance(0.3):
        q, a = d.pick(t.questions(d))
        m += [user(q), bot(sentence(a))]
    if d.chance(0.2):
        m.insert(0, system(d.pick(["You tell stories.", "You are a helpful assistant.", "You are a friendly storyteller."])))
    return case("story", m)


def tale_questions(d, short=None):
    t = Tale(d, short=d.chance(0.6) if short is None else short)
    qs = d.some(t.questions(d), 3)
    m = []
    for i, (q, a) in enumerate(qs):
        m += [user((t.text + "\n\n" + q) if i == 0 else q), bot(sentence(a))]
    if d.chance(0.3):
        m[0]["content"] = d.pick(["Read this story:\n\n", "Here is a story.\n\n"]) + m[0]["content"]
    return case("question", m)


# --- arithmetic ----------------------------------------------------------------------------------

def sum_of(d):
    op = d.pick("+++--*")
    if op == "*":
        a, b = d.number(1, 10), d.number(1, 10)
        return a, b, "×", a * b
    top = d.pick((10, 20, 20))
    a, b = d.number(0, top), d.number(0, top)
    if op == "-":
        a, b = max(a, b), min(a, b)
        return a, b, "-", a - b
    return a, b, "+", a + b


def arithmetic(d, turns=None):
    m = []
    for _ in range(turns or d.pick((1, 2, 4, 6))):
        a, b, op, r = sum_of(d)
        word = {"+": "plus", "-": "minus", "×": "times"}[op]
        if op != "×" and d.chance(0.25):
            n, u = d.name(), d.pick(UNITS)
            tell = f"gets {b} more" if op == "+" else f"gives away {b}"
            m += [user(f"{n} has {a} {u} and {tell}. How many {u} does {n} have now?"), bot(f"{a} {op} {b} = {r}")]
        else:
            m += [user(d.pick([f"What is {a} {op} {b}?", f"{a} {op} {b}?", f"How much is {a} {word} {b}?", f"What is {a} {word} {b}?", f"Calculate {a} {op} {b}."])),
                  bot(f"{a} {op} {b} = {r}")]
    return case("arithmetic", m)


def drill(d):
    """Raw lines of sums: many tasks in few tokens."""
    lines = []
    for _ in range(d.number(8, 24)):
        a, b, op, r = sum_of(d)
        lines.append(f"{a} {op} {b} = {r}")
    return "\n".join(lines)


# --- copying -------------------------------------------------------------------------------------

def copy_raw(d):
    """A random passage twice or more: what induction is learned from."""
    pool = d.pick((SECRETS, THINGS, CITIES, FOODS, None, None))
    ws = [d.pick(pool) if pool else d.fresh() for _ in range(d.number(6, 30))]
    s = d.pick((" ", ", ", "\n")).join(ws)
    return d.pick(("\n", "\n\n", ". ")).join([s] * d.pick((2, 2, 3)))


ABROAD = "café naïve Zoë Müller Øystein señor Łódź Привет мир 東京 日本 ñandú Grüße été 🙂 ★ → über Ελλάδα".split()


def copy_chat(d):
    m = []
    for _ in range(d.number(1, 4)):
        ws = " ".join(d.pick(ABROAD) if d.chance(0.04) else d.secret(0.5) if d.chance(0.8) else str(d.number(0, 999)) for _ in range(d.number(1, 8)))
        m += [user(d.pick([f"Say: {ws}", f"Repeat after me: {ws}", f"Please repeat: {ws}"])), bot(ws)]
    return case("copy", m)


# --- recall --------------------------------------------------------------------------------------

def fact(d, n):
    """(statement, question, answer sentence, the value to be recalled)."""
    i = d.number(0, 9)
    if i == 0:
        v = d.value(n, lambda: d.secret())
        return f"The secret word of {n} is {v}.", f"What is the secret word of {n}?", f"The secret word of {n} is {v}.", v
    if i == 1:
        v = d.value(n, lambda: d.pick(CITIES) if d.chance(0.7) else d.fresh().capitalize())
        return f"{n} lives in {v}.", f"Where does {n} live?", f"{n} lives in {v}.", v
    if i == 2:
        k, v = f"{d.pick(COLOURS)} {d.pick(('key', 'card', 'coin'))}", str(d.number(1, 99))
        return f"The {k} opens box {v}.", f"Which box does the {k} open?", f"The {k} opens box {v}.", v
    if i == 3:
        p, v = d.pick(PETS), d.value(n, lambda: d.fresh().capitalize())
        return f"The {p} of {n} is called {v}.", f"What is the {p} of {n} called?", f"The {p} of {n} is called {v}.", v
    if i == 4:
        p = d.pick(PLACES)
        v = d.value(p, lambda: d.secret())
        return f"The password of the {p} is {v}.", f"What is the password of the {p}?", f"The password of the {p} is {v}.", v
    if i == 5:
        v = d.value(n, lambda: d.pick(COLOURS))
        return f"The favorite color of {n} is {v}.", f"What is the favorite color of {n}?", f"The favorite color of {n} is {v}.", v
    if i == 6:
        v = d.value(n, lambda: str(d.number(100, 9999)))
        return f"The code of {n} is {v}.", f"What is the code of {n}?", f"The code of {n} is {v}.", v
    if i == 7:
        v = d.value(n, lambda: d.pick(FOODS))
        return f"{n} likes to eat {v}.", f"What does {n} like to eat?", f"{n} likes to eat {v}.", v
    if i == 8:
        v = d.value(n, lambda: d.pick(JOBS))
        return f"{n} works as a {v}.", f"What is the job of {n}?", f"{n} works as a {v}.", v
    o = d.pick(THINGS)
    v = d.value(n, lambda: d.pick(PLACES))
    return f"The {o} of {n} is in the {v}.", f"Where is the {o} of {n}?", f"The {o} of {n} is in the {v}.", v


def facts(d, k):
    out, seen = [], set()
    for n in d.names(k):
        f = fact(d, n)
        if f[1] not in seen:
            seen.add(f[1])
            out.append(f)
    return out


def recall_dense(d):
    """Many facts, many questions."""
    fs = facts(d, d.number(2, 9))
    m = []
    for i, f in enumerate(d.some(fs, min(len(fs), d.number(2, 6)))):
        m += [user((" ".join(x[0] for x in fs) + d.pick((" ", "\n")) + f[1]) if i == 0 else f[1]), bot(f[2])]
    return case("recall", m, f[3])


def small_talk(d):
    return d.pick((lambda: d.pick(GREET), lambda: arithmetic_pair(d), lambda: known_pair(d)))()


def arithmetic_pair(d):
    a, b, op, r = sum_of(d)
    return f"What is {a} {op} {b}?", f"{a} {op} {b} = {r}"


def known_pair(d):
    q, a = d.pick(KNOWN)
    return q, sentence(a)


def recall_far(d, words):
    """Facts, then filler of about that many words, then the questions (a token is about 0.8 words)."""
    fs = facts(d, d.number(1, 4))
    told = " ".join(f[0] for f in fs)
    style = d.number(0, 3)
    m, filler, have = [], [], 0
    while have < words:
        t = Tale(d, short=d.chance(0.5)).text
        if d.chance(0.3):
            t = " ".join(x[0] for x in facts(d, 5) if x[1] not in {f[1] for f in fs})
        filler.append(t)
        have += len(t.split())
    ask = d.some(fs, min(len(fs), d.number(1, 3)))
    if style == 0:
        m.append(user("\n\n".join([told] + filler + [ask[0][1]])))
    else:
        if style == 1:
            m += [system(told)]
        else:
            m += [user(d.pick(("", "Please remember: ", "Remember this. ")) + told), bot("I will remember that.")]
        for t in filler:
            if style == 2:
                m += [user(d.pick(("Here is a text. ", "Read this: ")) + t), bot("Thank you, I have read it.")]
            else:
                m += [user("Tell me more."), bot(t)]
            if d.chance(0.3):
                q, a = small_talk(d)
                m += [user(q), bot(a)]
        m.append(user(ask[0][1]))
    m.append(bot(ask[0][2]))
    last = ask[0]
    for f in ask[1:]:
        m += [user(f[1]), bot(f[2])]
        last = f
    return case("recall", m, last[3])


# --- chat ----------------------------------------------------------------------------------------

def chat(d):
    n = d.name()
    m, asks = [], []
    if d.chance(0.3):
        m.append(system(d.pick(["You are a helpful assistant.", "You are a friendly assistant.", "Be kind and short."])))
    for _ in range(d.number(1, 3)):
        i = d.number(0, 6)
        if i == 0:
            m += [user(d.pick([f"My name is {n}.", f"Hi, I am {n}.", f"Hello! My name is {n}."])), bot(f"Nice to meet you, {n}!")]
            asks.append((d.pick(["What is my name?", "Do you know my name?", "Who am I?"]), f"Your name is {n}."))
        elif i == 1:
            p, v = d.pick(PETS), d.fresh().capitalize()
            m += [user(f"I have a {p} named {v}."), bot(f"{v} is a nice name for a {p}!")]
            asks.append((f"What is the name of my {p}?", f"Your {p} is named {v}."))
        elif i == 2:
            v = d.pick(CITIES) if d.chance(0.6) else d.fresh().capitalize()
            m += [user(f"I live in {v}."), bot(f"I hope you like it in {v}.")]
            asks.append(("Where do I live?", f"You live in {v}."))
        elif i == 3:
            v = d.pick(FOODS)
            m += [user(f"I like {v}."), bot(f"I hear that {v} can be very good!")]
            asks.append(("What do I like?", f"You like {v}."))
        elif i == 4:
            v, w = d.pick(SUBJECTS), d.pick(DAYS)
            m += [user(f"On {w} I will go to the {v}."), bot(f"Have fun on {w}!")]
            asks.append(d.pick([(f"Where will I go on {w}?", f"You will go to the {v}."), (f"When will I go to the {v}?", f"You will go there on {w}.")]))
        elif i == 5:
            a, b = d.number(1, 20), d.number(1, 20)
            c = d.number(1, 9)
            m += [user(f"What is {a} + {b}?"), bot(f"{a} + {b} = {a + b}")]
            asks.append((f"And if you add {c}?", f"{a + b} + {c} = {a + b + c}"))
            break
        else:
            q, a = small_talk(d)
            m += [user(q), bot(a)]
    if asks:
        # Only the newest answer may be asked twice; "And if" needs the sum right before it.
        chosen = [asks[-1]] if asks[-1][0].startswith("And") else d.some(asks, d.number(1, len(asks)))
        seen = set()
        for q, a in chosen:
            if sum(q == x[0] for x in asks) == 1 and q not in seen:
                seen.add(q)
                m += [user(q), bot(a)]
    elif not m or len(m) < 2:
        q, a = small_talk(d)
        m += [user(q), bot(a)]
    return case("chat", m)


# --- rules in the system prompt ------------------------------------------------------------------

def rules(d):
    w, n = d.secret(0.4), d.name()
    W = w.capitalize()
    table = [
        (d.pick(["Answer in one word.", "Use only one word.", "Give one-word answers."]), lambda a, s: a.capitalize() + "."),
        (d.pick(["Answer in capital letters.", "Write in capital letters.", "Use only capital letters."]), lambda a, s: s.upper()),
        (d.pick([f"Always end with the word {w}.", f"End every answer with {w}."]), lambda a, s: f"{s} {w}"),
        (d.pick([f"Always begin with the word {W}.", f"Begin every answer with {W}."]), lambda a, s: f"{W} {s}"),
        (d.pick(["You are a pirate.", "Talk like a pirate.", "You are an old pirate."]), lambda a, s: f"Arr! {s} Ahoy, matey!"),
        (d.pick([f"The user is called {n}. Use the name.", f"Call the user {n}."]), lambda a, s: f"{s[:-1]}, {n}."),
        (d.pick(["Say every answer twice.", "Repeat your answer."]), lambda a, s: f"{s} {s}"),
        (d.pick(["Answer in small letters.", "Use only small letters."]), lambda a, s: s.lower()),
        (d.pick(["Answer with a list.", "Write your answer as a list."]), lambda a, s: f"- {a}"),
        ("You are a helpful assistant.", lambda a, s: s),
    ]
    rule, apply = d.pick(table)
    m, turns = [system(rule)], d.number(1, 4)
    for _ in range(turns):
        if d.chance(0.55):
            q, a = d.pick(KNOWN)
            s = sentence(a)
        else:
            fs = facts(d, d.number(1, 3))
            f = d.pick(fs)
            q, a, s = " ".join(x[0] for x in fs) + " " + f[1], f[3], f[2]
        m += [user(q), bot(apply(a, s))]
    return case("rule", m)


# --- thinking ------------------------------------------------------------------------------------

THINK = ["Think first.", "Think before you answer.", "Think step by step."]


def think(d):
    m = [system(d.pick(THINK))]
    i = d.number(0, 3)
    if i == 0:
        t = Tale(d, short=True)
        q, a = d.pick(t.questions(d))
        m += [user(t.text + "\n\n" + q), bot(sentence(a), f"The question is: {q}\nThe story is about {t.name} and {t.friend}.\nThe answer is {a}.")]
    elif i == 1:
        a, b, c = d.number(1, 20), d.number(1, 20), d.number(1, 9)
        m += [user(f"What is {a} + {b} + {c}?"), bot(f"{a} + {b} + {c} = {a + b + c}", f"{a} + {b} = {a + b}\n{a + b} + {c} = {a + b + c}")]
    elif i == 2:
        fs = facts(d, d.number(2, 5))
        f = d.pick(fs)
        m += [user(" ".join(x[0] for x in fs) + " " + f[1]), bot(f[2], f"The question is: {f[1]}\nI read: {f[0]}")]
    else:
        a, b, op, r = sum_of(d)
        m += [user(f"What is {a} {op} {b}?"), bot(f"{a} {op} {b} = {r}", f"I need {a} {op} {b}.\nThat is {r}.")]
    return case("think", m)
