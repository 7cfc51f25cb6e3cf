"""Words that documents are made of. None is a place, name, folder, file, city or colour of `sfi_sglang.evals`."""

import random


def _words(text: str) -> list[str]:
    return text.split()


def _phrases(text: str) -> list[str]:
    return text.split("|")


FIRST_NAMES = _words(
    "Ada Amir Anneke Boris Carla Chen Dalia Deepak Edith Emeka Farid Fiona Gustav Hana Hugo Ines Ivan Jamila "
    "Jonas Kaito Kirsten Leila Lorenzo Mabel Marek Miriam Naveen Nora Olga Oscar Paloma Pavel Quentin Rania Rosa "
    "Samir Sigrid Tariq Teresa Ulrich Uma Viktor Wanda Xavier Yara Yusuf Zelda Zoltan"
)
ROLES = _phrases(
    "the accountant|the night watchman|a retired pilot|the new intern|our dentist|the chess champion|a tired "
    "courier|the mayor's cousin|the violin maker|a travelling nurse|the plumber|the youngest sister|a visiting "
    "professor|the lift operator|the museum guard|a stubborn lawyer|the beekeeper|the radio host|my former "
    "landlord|the tax inspector|a wandering monk|the orchestra conductor|the bus driver|a cheerful butcher|the "
    "deputy minister|the glass blower|the lighthouse keeper|an unlucky gambler|the swimming coach|the crane "
    "operator|a film critic|the interpreter|the goalkeeper|a patient fisherman|the piano tuner|the apprentice|the "
    "twins from upstairs|a nervous witness|the cook|the map collector|a border guard|the stage manager"
)
VERBS = _phrases(
    "carefully repaired|drove around|refused to pay for|dreamt again of|took a photograph of|quietly "
    "admired|argued with everybody over|made a sketch of|spent the whole week near|borrowed money for|complained "
    "bitterly about|was proud of|slipped and fell beside|measured every side of|hurried towards|waited for hours "
    "by|read an article on|lost all interest in|put a fence around|told the newspaper about|inherited|cleaned and "
    "polished|gave a short speech on|hid a letter under|went back twice to|planned to sell|paid a fortune for|had "
    "never noticed|kept a diary about|stumbled upon|was asked to guard|made jokes about|photographed|travelled "
    "far to see|counted the windows of|rented|filled three notebooks on|warned us about|drew a plan of|mislaid "
    "the keys of|watched over|looked everywhere for"
)
ADJECTIVES = _words(
    "ancient bent brass bright busy cheap copper crooked crowded cursed damp dusty eastern elegant famous flooded "
    "forgotten frozen hidden hollow humble iron lonely lower marble narrow nameless northern oval painted pale "
    "plain private purple quiet restless round rusty sealed shallow southern square sunken tall tiny upper vast "
    "velvet western wooden"
)
NOUNS = _words(
    "airfield aquarium archive arena armoury bakery bank barracks bathhouse bazaar brewery cabin canal casino "
    "castle cave chapel cinema clinic courthouse dam depot dockyard elevator embassy fairground farm ferry fort "
    "foundry fountain gallery garage greenhouse hangar hotel kiosk laboratory laundry lighthouse lodge monastery "
    "museum nursery observatory orchard palace pavilion pharmacy pier planetarium prison quarry refinery "
    "reservoir sawmill shipyard shrine silo stable stadium steelworks studio temple theatre tunnel vault villa "
    "vineyard warehouse wharf windmill workshop zoo"
)
THINGS = _words(
    "accordion album anchor armchair banner barrel basket bicycle binder blanket bottle bracelet camera candle "
    "carpet chest compass crate curtain dagger drum engine flute generator hammock helmet hourglass jar kettle "
    "kite ladder lantern locket magnet mattress medal mirror motor necklace oven parasol piano pillow pump rope "
    "saddle scale scooter sculpture sled stove suitcase telescope tent trumpet typewriter umbrella vase violin "
    "wagon wardrobe whistle"
)
ENDINGS = _phrases(
    "shortly after midnight|without saying a word|in spite of the storm|when the guests had left|for the third "
    "time|as everyone had expected|to the great surprise of the neighbours|long before the war|during the summer "
    "holidays|while the radio was playing|because the train was late|on a foggy Tuesday|with great patience|and "
    "nobody complained|after a heavy lunch|in the middle of the night|until the lights went out|for no good "
    "reason|under a clear sky|once the snow had melted|as if nothing had happened|and regretted it later|on the "
    "way to the airport|just to please the family|before anybody could object|with a borrowed umbrella|at the end "
    "of a long winter|though the doctor had forbidden it|in front of the whole class|between two "
    "meetings|although it was raining|and smiled"
)
ALIASES = _words(
    "agate almond anvil apollo aspen atlas badger banjo basalt beacon bison bobcat bronze cactus cobalt comet "
    "condor coral cosmos coyote cricket crystal dolphin domino dragon eagle eclipse falcon fennel ferret flint "
    "fossil galaxy gecko ginger granite hazel hornet iguana indigo ivory jackal jaguar jasmine jasper jupiter "
    "juniper koala lemur lilac lotus lynx magnolia maple marlin meteor mimosa mongoose nebula nectar nickel oak "
    "ocelot olive onyx opal orchid osprey otter panther pelican pepper pine puma quartz raven saffron salmon "
    "sequoia sparrow spruce thistle tiger topaz tulip turtle umbra vega velvet viper walnut willow wombat yarrow "
    "zephyr zircon"
)
ATTRIBUTES = _phrases(
    "locker number|badge number|serial number|permit|registration|reference|tracking number|customer number|phone "
    "extension|meter reading|invoice number|lot number|ticket|passphrase|PIN|licence|account|membership "
    "number|shelf mark|combination|fingerprint|checksum|release tag|booking reference|case number|inventory "
    "number|batch label|routing number|call sign|storage key|contract number|coordinates|sample number|asset "
    "tag|voucher|signature|archive number|policy number|device number|part number"
)
FIELDS = _words(
    "amount author balance bay brand carrier channel count country currency deadline depth dept driver due email "
    "floor grade height host label lane level limit maker model month owner page parcel phase pin plan port quota "
    "rank rate ref region room seat serial shelf shift size sku slot speed stage status supplier tag team temp "
    "tier title town unit vendor version weight width year zone"
)
STEMS = _words(
    "adapter anchor backup billing bridge buffer builder catalog checker counter crawler daemon decoder dispatch "
    "encoder exporter filter gateway grammar helper importer journal kernel ledger lexer manifest matrix mixer "
    "module monitor notifier packet pipeline planner plugin poller printer profile proxy queue reader registry "
    "render resolver sampler scanner scheduler sensor shader signer snapshot solver storage stream summary switch "
    "tracer updater vector visitor watcher widget writer"
)
DIRECTORIES = _words(
    "admin api app archive backend bin build common content data deploy dist engine etc examples export features "
    "fixtures frontend home include infra internal jobs local logs main media mnt models modules net opt packages "
    "plugins private public queue releases scripts services shared site spec srv static storage system templates "
    "theme users utils var vendor views web"
)
SUFFIXES = _words(
    "bin c cfg conf cpp csv css db gz h html ini ipynb java js kt log lua md pdf pl png rb sh sql tar txt wav xml yml"
)
ACTIONS = _words(
    "approve archive assign book cancel charge close confirm deliver dispatch extend fetch file inspect lock "
    "look_up merge move notify open pause prepare print refund release renew repair replace reserve resolve "
    "return schedule send ship sign start stop suspend sync transfer unlock update validate"
)
RESOURCES = _words(
    "account alarm appointment asset batch bill booking cart claim contract coupon delivery device document "
    "flight invoice item lease letter meeting package parcel patient payment permit pickup policy product project "
    "rental repair request sample sensor shipment stock subscription task ticket trip user vehicle visit volume"
)
LEVELS = _words("DEBUG INFO NOTICE WARN ERROR TRACE")
SYLLABLES = _words(
    "ba bel bor bran cal cor dal dor dun el fal fen gal gor hal har hol kar kel kir lan lor mar mel mor nal nor "
    "pel quin ral ros sal sel tal tor ul val ver vin wen wes yor zan zel"
)
TAILS = _words("a by den dorf e ford ham hurst ia in is ley mere mont o on stad ton um ville wick")


def town(rng: random.Random) -> str:
    """An invented proper name: most are of two to four syllables and occur nowhere else."""
    return "".join(rng.choices(SYLLABLES, k=rng.randint(1, 2))).capitalize() + rng.choice(TAILS)
