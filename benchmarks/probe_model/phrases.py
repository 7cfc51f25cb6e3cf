"""Ways to say and to ask it. Fields: a attribute, e thing that has it, v value, k kind of name, n name, o older name,
s start of a passage, f function, r its result, t resource; in capitals, with a large first letter."""

TOLD = (
    "{E} has the {a} {v}.", "{E} has {a} {v}.", "For {e}, the {a} reads {v}.", "{V} is the {a} for {e}.",
    "Remember: {a} for {e} = {v}.", "Please note that {e} was given the {a} {v}.", "{E} was registered under {a} {v}.",
    "Somebody wrote the {a} {v} on {e}.", "The {a} assigned to {e} is {v}.", "The {a} belonging to {e} is {v}.",
    "{E} - {a}: {v}.", "As for {e}, its {a} happens to be {v}.", "According to the files, {e} uses {a} {v}.",
    "You need {v} as the {a} for {e}.", "On {e} one can read the {a} {v}.", "{E} goes by the {a} {v}.",
    "It says here that the {a} for {e} is now {v}.", "We gave {e} a new {a}, namely {v}.", "{A} for {e}: {v}.",
    "With {a} {v}, {e} is easy to identify.", "They told me that the {a} at {e} would be {v}.",
    "In case you wonder, the {a} for {e} equals {v}.", "{E} is listed with {v} as its {a}.",
    "The clerk confirmed {v} to be the {a} for {e}.", "The value {v} was set as {a} for {e}.",
)  # fmt: skip
ASKED = (
    "What {a} does {e} have?", "Which {a} belongs to {e}?", "Tell me the {a} for {e}.",
    "I need the {a} for {e}, please.", "What was said about the {a} for {e}?", "{E}: which {a}?",
    "Find the {a} assigned to {e}.", "{A} for {e}?", "Look up {e} and give its {a}.",
    "Do you recall the {a} given to {e}?", "Under which {a} is {e} known?", "Can you state the {a} for {e}?",
    "Somebody asks for {e}'s {a}. What is it?", "Which {a} goes with {e}?", "Retrieve: {a}, {e}.",
    "State the {a} for {e} exactly as given.", "What do the lines above give as {a} for {e}?", "What's the {a} on {e}?",
    "How does the {a} for {e} read?", "Name {e}'s {a}.", "Fill in the {a} for {e}.",
)  # fmt: skip
LEADS = (
    "{E} has the {a}", "The {a} assigned to {e} is", "The {a} for {e} is", "It is", "For {e}, the {a} is", "{A}:",
    "The text gives the {a} as", "{E}'s {a} is", "That would be", "The {a} belonging to {e} is",
    "The {a} in question is", "{E} ->", "{A} for {e}:", "The {a} you want is", "According to the text, it is",
    "{E} goes by",
)  # fmt: skip
ONE_OF = (
    "{E} has the {a} {v} among others.", "{E} also has the {a} {v}.", "{V} is one {a} for {e}.", "A {a} for {e}: {v}.",
    "Another {a} seen on {e} was {v}.", "Add {v} to the list for {e} ({a}).", "{E} received the {a} {v}.",
    "There is a {a} {v} for {e}.", "{E} += {v} ({a})", "Noted for {e}: {a} {v}.", "Some {a} for {e} reads {v}.",
)  # fmt: skip
LIST_ASKED = (
    "List every {a} for {e}, first to last.", "Which values of {a} does {e} have, in sequence?",
    "{E}: each {a}, please.", "Give each {a} noted for {e} in the sequence they came in.",
    "Enumerate what {e} has as {a}.", "What are the several {a} entries for {e}?",
    "Collect every {a} belonging to {e}.", "Every {a} for {e}?",
    "Go through the text and name all {a} values for {e}, from the earliest to the latest.",
)  # fmt: skip
LIST_LEADS = (
    "{E} has", "In sequence:", "The list:", "These are", "The entries for {e} are", "First to last:", "There are",
    "{E}:", "The text names", "Every {a} for {e}:", "Those are", "The values are",
)  # fmt: skip
SYMBOLS = (
    "variable", "symbol", "alias", "token", "register", "tag", "constant", "label", "switch", "slot", "parameter",
    "cell",
)  # fmt: skip
BASES = (
    "{K} {n} holds {v}.", "Let {n} be {v}.", "{n} = {v}", "The {k} {n} has the value {v}.", "Set {k} {n} to {v}.",
    "{K} {n} was given {v}.", "{K} {n} stands for {v}.", "We define the {k} {n} as {v}.", "Store {v} in {n}.",
)  # fmt: skip
SAME = (
    "{K} {n} equals {k} {o}.", "Let {n} be whatever {o} is.", "{n} = {o}", "The {k} {n} takes the value of {o}.",
    "Set {k} {n} to {o}.", "{K} {n} is a copy of {k} {o}.", "{K} {n} stands for {o}.", "We define the {k} {n} as {o}.",
    "Store {o} in {n}.", "The {k} {n} refers to {o}.", "{K} {n} means just what {k} {o} means.",
    "For {k} {n}, look at {k} {o}.", "Whoever says {n} means {o}.",
)  # fmt: skip
CHAIN_ASKED = (
    "What value does {n} have?", "To what does the {k} {n} resolve?", "Follow {n} to its value.", "Evaluate {n}.",
    "What does the {k} {n} finally stand for?", "print({n})", "Which value hides behind the {k} {n}?", "{K} {n}?",
    "What is stored in {n} in the end?", "Resolve the {k} {n}.", "How much is {n}?",
)  # fmt: skip
CHAIN_LEADS = (
    "{n} is", "The {k} {n} has the value", "It resolves to", "{n} =", "The {k} {n} finally stands for",
    "{n} evaluates to", "In the end it is", "{K} {n} comes to", "", "The value is", "The {k} {n} amounts to",
)  # fmt: skip
LABELLED = (
    "{A}{of}: {v}", "{a}{of} = {v}", "{A}{of} -> {v}", "* {a}{of}: {v}", "[{a}{of}] {v}", "{A}{of} follows: {v}",
    "{A}{of} (keep it): {v}", "# {a}{of}: {v}", "{a}{of} := {v}", "This is the {a}{of}: {v}", "- {A}{of} | {v}",
    "Write down the {a}{of}: {v}", "<{a}{of}> {v}", "The {a}{of} reads: {v}", "Saved {a}{of}: {v}", "{A}{of} stays {v}",
)  # fmt: skip
REPEATED = (
    "Copy the {a}{of}:", "Once again the {a}{of}:", "{A}{of}, repeated:", "Say the {a}{of} again:", "Echo {a}{of} ->",
    "As above, {a}{of}:", "The {a}{of} from above:", "Recall the {a}{of}:", "Repeat after me, {a}{of}:",
    "Here comes the {a}{of} a second time:", "To repeat it, the {a}{of} was:", "Restate {a}{of} =", "{a}{of} again:",
    "Verbatim, the {a}{of} reads:", "For the minutes, {a}{of}:",
)  # fmt: skip
OWNERS = (" of {e}", " for {e}", " ({e})", " in {e}", " at {e}", " used by {e}", ", {e}")
ROWS = ("{n}: {v}", "{n} = {v}", "| {n} | {v} |", "{n}\t{v}", '"{n}" -> {v}', "{n};{v}", "- {n} => {v}", "set {n} {v}")
ROW_ASKED = (
    "Table lookup: {n}", "Which value is in the row {n}?", "Read off the entry for {n}.", "get {n}", "{n} ->",
    "What stands beside {n} in the table?", "Value for the key {n}?",
)  # fmt: skip
QUOTED = (
    "Continue the passage: {s}", "Quote from above: {s}", 'It reads word for word: "{s}',
    "Complete this from the text: {s}", "> {s}", "The passage began with these words: {s}", "Recite: {s}", "Again: {s}",
    "...{s}",
)  # fmt: skip
RESULTS = (
    "{f} returned {r}", "<- {f}: {r}", "[tool] {f} => {r}", "Output from {f}: {r}", "{f}() gave back {r}",
    '{{"tool": "{f}", "output": {r}}}', "<output name={f}>{r}</output>", "Response ({f}): {r}", "{f} said: {r}",
    "$ {f}\n{r}", "About {e}, {f} answered {r}",
)  # fmt: skip
BEFORE_CALLS = (
    "Now use {f}.", "Let us do {f} for that {t}.", "Call {f} with the {t} from above.", "Time for {f}.", "-> {f}", "",
    "The {t} has to go through {f}.", "Then the agent runs {f}:", "Action: {f}", "Invoke the tool for the {t}.",
    "The following step deals with the {t}.",
)  # fmt: skip
SPEAKERS = (
    ("Q: ", "A: "), ("Q: ", "A: "), ("Query: ", "Reply: "), ("Asked: ", "Said: "), ("User: ", "Assistant: "), ("", ""),
    ("Human: ", "AI: "), ("Test: ", "Result: "), ("Customer: ", "Agent: "), ("Teacher: ", "Pupil: "), ("- ", "  "),
    ("? ", "! "), ("Problem: ", "Solution: "), ("Prompt: ", "Completion: "), ("In: ", "Out: "),
)  # fmt: skip
TURNS = (
    ("Part {i}: ", "\nOkay, I read it.\n"), ("Message {i}\n", "\nReceived.\n"),
    ("Chapter {i}. ", "\nEnd of chapter {i}.\n"), ("[{i}] ", "\n(stored)\n"),
    ("User: ", "\nAssistant: Thank you, go on.\n"), ("Observation: ", "\nThought: Let me see more.\n"),
    ("Page {i}\n", "\nTurn the page.\n"), ("Email {i}: ", "\nSeen, filed.\n"), ("<document>\n", "\n</document>\n"),
)  # fmt: skip
ACKNOWLEDGED = ("Understood.", "Okay.", "Thanks, I have that.", "Go on, please.", "I am ready.", "Fine, what next?")
