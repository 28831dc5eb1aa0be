"""Conversations with formal answers: JSON objects for small schemas, and tool calls."""
import json

from tales import Tale, a_an
from tasks import bot, case, facts, small_talk, system, user
from words import CITIES, COLOURS, DAYS, FOODS, JOBS, KINDS, MONTHS, PETS, PLACES, SUBJECTS, THINGS, WILD


def dumps(x):
    return json.dumps(x, ensure_ascii=False)


# --- JSON ----------------------------------------------------------------------------------------

def record(d):
    """(title, sentences, values): the sentences state every value."""
    i = d.number(0, 9)
    n = d.name()
    if i == 0:
        v = {"name": n, "age": d.number(2, 99), "city": d.value(n, lambda: d.pick(CITIES)), "job": d.pick(JOBS)}
        return "person", [f"{n} is {v['age']} years old.", f"{n} lives in {v['city']}.", f"{n} works as a {v['job']}."], v, "name"
    if i == 1:
        v = {"name": n, "kind": d.value(n, lambda: d.pick(WILD)), "color": d.pick(COLOURS), "legs": d.pick((2, 4, 6, 8))}
        return "animal", [f"{n} is {a_an(v['kind'])}.", f"{n} is {v['color']}.", f"{n} has {v['legs']} legs."], v, "name"
    if i == 2:
        p = d.fresh().capitalize()
        v = {"name": p, "type": d.pick(PLACES), "people": d.number(10, 9999), "country": d.fresh().capitalize()}
        return "place", [f"{p} is a {v['type']}.", f"{p} has {v['people']} people.", f"{p} is in {v['country']}."], v, "name"
    if i == 3:
        o = d.pick(THINGS)
        v = {"item": o, "color": d.value(o, lambda: d.pick(COLOURS)), "price": d.number(1, 500), "size": d.pick(("small", "medium", "large"))}
        return "item", [f"The {o} is {v['color']}.", f"The {o} costs {v['price']} coins.", f"The {o} is {v['size']}."], v, "item"
    if i == 4:
        a, b = d.number(0, 10), d.number(0, 10)
        return "sum", [f"Add {a} and {b}."], {"a": a, "b": b, "result": a + b}, "a"
    if i == 5:
        t = Tale(d, short=True)
        v = {"name": t.name, "animal": t.kind, "place": t.place, "friend": t.friend}
        return "story", [t.text], v, "name"
    if i == 6:
        title = f"The {d.pick(COLOURS).capitalize()} {d.pick(THINGS).capitalize()}"
        v = {"title": title, "author": n, "pages": d.number(20, 900), "year": d.number(1900, 2025)}
        return "book", [f"{title} was written by {n}.", f"It has {v['pages']} pages.", f"It is from {v['year']}."], v, "title"
    if i == 7:
        e = d.pick(("party", "concert", "market", "race", "meeting", "dinner"))
        v = {"event": e, "day": d.value(e, lambda: d.pick(DAYS)), "place": d.pick(PLACES), "guests": d.number(2, 200)}
        return "event", [f"The {e} is on {v['day']}.", f"The {e} is at the {v['place']}.", f"The {e} has {v['guests']} guests."], v, "event"
    if i == 8:
        v = {"owner": n, "pet": d.pick(PETS), "name": d.value(n, lambda: d.fresh().capitalize()), "age": d.number(1, 20)}
        return "pet", [f"{n} has a {v['pet']}.", f"The {v['pet']} is called {v['name']}.", f"It is {v['age']} years old."], v, "owner"
    v = {"customer": n, "item": d.pick(THINGS), "count": d.number(1, 60), "paid": d.chance(0.5)}
    return "order", [f"{n} wants {v['count']} of item {v['item']}.", f"The order is {'paid' if v['paid'] else 'not paid'}."], v, "customer"


TYPES = {str: "string", int: "integer", bool: "boolean"}


def schema(v):
    return {"type": "object", "properties": {k: {"type": TYPES[type(x)]} for k, x in v.items()}, "required": list(v)}


def listing(keys):
    return keys[0] if len(keys) == 1 else ", ".join(keys[:-1]) + " and " + keys[-1]


def json_answer(d):
    title, told, values, main = record(d)
    keys = list(values)
    if title != "sum":
        keep = d.some(keys, d.number(2, len(keys)))
        keys = keep if d.chance(0.4) else [k for k in keys if k in keep]
        head, rest = told[0], told[1:]
        if d.chance(0.4) and title in ("person", "animal", "item", "event", "place"):
            d.r.shuffle(told)
        else:
            told = [head] + rest
    text = " ".join(told)
    if d.chance(0.15):
        text += " " + " ".join(f[0] for f in facts(d, d.number(1, 3)))
    want = {k: values[k] for k in keys}
    style, ks = d.number(0, 5), listing(keys)
    if style == 0:
        m = [user(f"{text} {d.pick(['Give', 'Return', 'Write'])} {ks} as JSON.")]
    elif style == 1:
        m = [user(f"{text}\n{d.pick(['Return a JSON object with the keys', 'Answer with JSON. Keys:', 'Make a JSON object with'])} {ks}.")]
    elif style == 2:
        m = [system(d.pick(["Answer with JSON that matches this schema: ", "Respond only with JSON. Schema: ", "Schema: "]) + dumps(schema(want))), user(text)]
    elif style == 3:
        m = [system(d.pick(["Answer as JSON with the keys ", "Reply with a JSON object. Keys: "]) + ks + "."), user(text)]
    elif style == 4:
        m = [user(f"{text}\n{d.pick(['Answer with JSON for this schema:', 'Fill this JSON schema:'])} {dumps(schema(want))}")]
    else:
        m = [system("Answer with JSON that matches this schema: " + dumps(schema(want))), user(d.pick([f"Describe the {title}: ", "Here is what I know: "]) + text)]
    return case("json", m + [bot(dumps(want))], want)


# --- tools ---------------------------------------------------------------------------------------

def family(d):
    """(names, description, {parameter: (type, value)}, request, result, final answer)."""
    n, c, w, k = d.name(), d.pick(CITIES) if d.chance(0.7) else d.fresh().capitalize(), d.secret(0.4), d.number(1, 99)
    i = d.number(0, 17)
    if i == 0:
        s, g = d.pick(("sunny", "rainy", "cloudy", "windy", "snowy")), d.number(-9, 35)
        return (("get_weather", "weather_in", "check_weather", "fetch_weather"), "Get the weather of a city", {("city", "place", "location"): c},
                [f"What is the weather in {c}?", f"How is the weather in {c}?", f"Tell me the weather in {c}."], {"sky": s, "degrees": g}, f"It is {s} in {c}, {g} degrees.")
    if i == 1:
        t = f"{d.number(1, 12)}:{d.number(10, 59)}"
        return (("get_time", "time_in", "clock", "current_time"), "Get the time in a city", {("city", "zone", "location"): c},
                [f"What time is it in {c}?", f"Tell me the time in {c}."], {"time": t}, f"It is {t} in {c}.")
    if i == 2:
        return (("set_timer", "start_timer", "timer"), "Start a timer", {("minutes", "duration"): k}, [f"Set a timer for {k} minutes.", f"Start a timer of {k} minutes."],
                {"ok": True}, f"The timer is set for {k} minutes.")
    if i == 3:
        return (("send_message", "message", "send_text", "write_to"), "Send a message to a person", {("to", "person", "name"): n, ("text", "message", "body"): w},
                [f"Send the message {w} to {n}.", f"Write {w} to {n}."], {"ok": True}, f"I sent the message to {n}.")
    if i == 4:
        return (("add_note", "save_note", "note", "write_note"), "Save a note", {("text", "note", "content"): f"{w} {d.pick(THINGS)}"}, None, {"ok": True}, "I saved the note.")
    if i == 5:
        return (("play_song", "play_music", "start_song"), "Play a song", {("title", "song"): w}, [f"Play the song {w}.", f"I want to hear the song {w}."], {"ok": True}, f"Now playing {w}.")
    if i == 6:
        a, b = d.number(2, 999), d.number(2, 999)
        return (("multiply", "times", "product"), "Multiply two numbers", {("a", "x", "first"): a, ("b", "y", "second"): b}, [f"Multiply {a} and {b}.", f"What is {a} times {b}?"],
                {"result": a * b}, f"The result is {a * b}.")
    if i == 7:
        a, b = d.number(2, 999), d.number(2, 999)
        return (("add_numbers", "add", "sum"), "Add two numbers", {("a", "x", "first"): a, ("b", "y", "second"): b}, [f"Add {a} and {b}.", f"What is {a} plus {b}?"],
                {"result": a + b}, f"The result is {a + b}.")
    if i == 8:
        l = d.pick("French German Spanish Italian Latin Greek Polish Dutch".split())
        v = d.fresh()
        return (("translate", "translate_word", "to_language"), "Translate a word", {("word", "text"): w, ("language", "target", "to"): l},
                [f"Translate {w} to {l}.", f"What is {w} in {l}?"], {"word": v}, f"It is {v} in {l}.")
    if i == 9:
        o = d.pick(("lamp", "heater", "radio", "fan", "oven", "light"))
        r = d.pick(("kitchen", "bedroom", "hall", "garage", "office", "bathroom"))
        return (("turn_on", "switch_on", "power_on"), "Turn on a device", {("device", "thing"): o, ("room", "where"): r}, [f"Turn on the {o} in the {r}.", f"Switch on the {o} in the {r}."],
                {"ok": True}, f"The {o} in the {r} is on.")
    if i == 10:
        o = d.pick(FOODS + THINGS)
        return (("buy_item", "order", "purchase", "buy"), "Buy something", {("item", "product"): o, ("count", "amount", "quantity"): k}, [f"Buy {k} of {o}.", f"Order {k} of {o}."],
                {"ok": True}, f"I ordered {k} of {o}.")
    if i == 11:
        return (("search", "web_search", "find", "look_up"), "Search for a text", {("query", "text", "q"): w}, [f"Search for {w}.", f"Look up {w}."], {"hits": k}, f"I found {k} pages about {w}.")
    if i == 12:
        return (("book_table", "reserve_table", "reserve"), "Reserve a table", {("name", "guest"): n, ("people", "persons", "seats"): k},
                [f"Book a table for {k} people under the name {n}.", f"Reserve a table for {n} with {k} people."], {"ok": True}, f"The table is booked for {n}.")
    if i == 13:
        dd = d.pick(DAYS)
        return (("add_event", "calendar_add", "create_event"), "Put an event into the calendar", {("title", "event"): w, ("day", "date"): dd},
                [f"Put {w} into my calendar on {dd}.", f"Add the event {w} on {dd}."], {"ok": True}, f"I added {w} on {dd}.")
    if i == 14:
        a = d.number(20, 90)
        return (("get_age", "age_of", "find_age"), "Get the age of a person", {("name", "person"): n}, [f"How old is {n}?", f"What is the age of {n}?"], {"age": a}, f"{n} is {a} years old.")
    if i == 15:
        a = f"{d.number(100, 999)}-{d.number(100, 999)}"
        return (("get_phone", "phone_of", "find_phone"), "Get the phone number of a person", {("name", "person", "who"): n},
                [f"What is the phone number of {n}?", f"Find the phone number of {n}."], {"phone": a}, f"The phone number of {n} is {a}.")
    if i == 16:
        return (("read_file", "open_file", "load_file"), "Read a file", {("path", "file", "name"): f"{w}.txt"}, [f"Read the file {w}.txt.", f"Open {w}.txt."], {"text": n}, f"The file says: {n}")
    # An invented tool: nothing but the declaration tells its name.
    f, x = d.fresh(), d.fresh()
    return ((f"{f}_{x}", f"{d.pick(('get', 'set', 'run', 'do'))}_{f}", f), f"Use the {f}", {("key", "value", x): w}, [f"Use the {f} with {w}.", f"Run the {f} for {w}."], {"ok": True}, "Done.")


def build(d, f):
    names, text, params, ask, result, final = f
    args = {d.pick(k): v for k, v in params.items()}
    if ask is None:
        ask = [f"Save a note: {v}" for v in args.values()] + [f"Note down: {v}" for v in args.values()]
    name = d.pick(names)
    decl = {"type": "function", "function": {"name": name, "description": text, "parameters": schema(args)}}
    return name, decl, args, d.pick(ask), result, final


def call(name, args):
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": name, "arguments": args}}]}


def tool_call(d):
    built, seen = [], set()
    for _ in range(d.pick((1, 2, 2, 3, 3))):
        f = family(d)
        if f[1] not in seen:
            seen.add(f[1])
            built.append(build(d, f))
    tools = [b[1] for b in built]
    m = [system(d.pick(["You are a helpful assistant.", "Use the tools if needed."]))] if d.chance(0.3) else []
    if d.chance(0.18):
        if d.chance(0.5):
            q, a = small_talk(d)
        else:
            f = d.pick(facts(d, 3))
            q, a = f"{f[0]} {f[1]}", f[2]
        return case("notool", m + [user(q), bot(a)], a, tools)
    turns = d.pick((1, 1, 1, 2))
    for i in range(turns):
        name, decl, args, ask, result, final = d.pick(built)
        m += [user(ask), call(name, args)]
        if i + 1 < turns or d.chance(0.4):
            m += [{"role": "tool", "content": dumps(result)}, bot(final)]
            if i + 1 < turns and d.chance(0.3):
                q, a = small_talk(d)
                m += [user(q), bot(a)]
    if m[-1]["content"]:
        return case("toolresult", m, final, tools)
    return case("tool", m, {"name": name, "arguments": args}, tools)
