use serde_json::{Value, json};

use super::*;
use crate::inference::grammar::check_text;
use crate::inference::tokenizer::tests_support::{real_tokenizer, small_tokenizer};

fn factory() -> (Arc<Tokenizer>, GrammarFactory) {
    let tokenizer = Arc::new(small_tokenizer());
    // Wider than the vocabulary, as padded outputs are.
    let factory = GrammarFactory::new(&tokenizer, 320).unwrap();
    (tokenizer, factory)
}

/// A small generator of our own, so that a failing walk can be walked again.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// Walks at random under the mask; `None` where the walk got too long. Prefers quotes and closing brackets, or strings
/// would hardly ever end.
fn walk(tokenizer: &Tokenizer, matcher: &mut Matcher, seed: u64) -> Option<String> {
    let mut random = Random(seed);
    let mut ids: Vec<TokenId> = Vec::new();
    while !matcher.is_stopped() && ids.len() < 4000 {
        let forced = matcher.forced_tokens();
        let next = if forced.is_empty() {
            let allowed: Vec<TokenId> = matcher.allowed().unwrap().tokens().collect();
            let closing = allowed
                .iter()
                .copied()
                .find(|id| matches!(tokenizer.token_bytes(*id), b"\"" | b"]" | b"}") || tokenizer.is_end(*id));
            let any = allowed[random.below(allowed.len())];
            vec![closing.filter(|_| random.below(4) == 0).unwrap_or(any)]
        } else {
            let mut copy = matcher.clone();
            for id in &forced {
                assert!(copy.allowed().unwrap().allows(*id), "a forced token is an allowed one");
                copy.consume(&[*id]).unwrap();
            }
            forced
        };
        matcher.consume(&next).unwrap();
        ids.extend(next);
    }
    assert_eq!(matcher.failure(), None);
    (ids.len() < 4000).then(|| {
        let text: Vec<TokenId> = ids.into_iter().filter(|id| !tokenizer.is_end(*id)).collect();
        assert!(text.iter().all(|id| tokenizer.is_text(*id)));
        tokenizer.decode(&text, false)
    })
}

fn check_walks(schema: Value, num_walks: u64) -> Vec<String> {
    let (tokenizer, factory) = factory();
    check_walks_with(&tokenizer, &factory, schema, num_walks)
}

fn check_walks_with(tokenizer: &Tokenizer, factory: &GrammarFactory, schema: Value, num_walks: u64) -> Vec<String> {
    let constraint = Constraint::JsonSchema(schema);
    let compiled = factory.compile(&constraint).unwrap();
    let texts: Vec<String> = (0..num_walks).filter_map(|seed| walk(tokenizer, &mut compiled.clone(), seed)).collect();
    assert!(texts.len() as u64 * 10 >= num_walks * 9, "{} of {num_walks} walks ended", texts.len());
    for text in &texts {
        check_text(&constraint, text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    texts
}

fn invoice() -> Value {
    json!({
        "type": "object",
        "properties": {
            "vendor": {"type": "string", "minLength": 1, "maxLength": 20},
            "date": {"type": "string", "format": "date"},
            "currency": {"enum": ["EUR", "USD", "CZK"]},
            "paid": {"type": ["boolean", "null"]},
            "total": {"type": "number", "minimum": 0},
            "lines": {
                "type": "array", "minItems": 1, "maxItems": 3,
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "maxLength": 12},
                        "pieces": {"type": "integer", "minimum": 1, "maximum": 999},
                        "tags": {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/tag"}},
                    },
                    "required": ["name", "pieces"],
                    "additionalProperties": false,
                },
            },
        },
        "required": ["vendor", "date", "currency", "total", "lines"],
        "additionalProperties": false,
        "$defs": {"tag": {"type": "string", "pattern": "^[a-z]{2,5}$"}},
    })
}

fn check_refused(schema: Value, expected: &str) {
    let error = factory().1.compile(&Constraint::JsonSchema(schema)).map(drop).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn random_walks_under_the_mask_always_give_valid_invoices() {
    let texts = check_walks(invoice(), 150);
    assert!(texts.iter().all(|text| text.starts_with("{\"vendor\": \"") && !text.contains('\n')));
}

#[test]
fn random_walks_over_a_real_vocabulary_give_valid_invoices() {
    let Some(tokenizer) = real_tokenizer().map(Arc::new) else { return };
    let started = std::time::Instant::now();
    let factory = GrammarFactory::new(&tokenizer, tokenizer.vocab_size().next_multiple_of(64)).unwrap();
    eprintln!("factory in {:?}", started.elapsed());
    let started = std::time::Instant::now();
    let texts = check_walks_with(&tokenizer, &factory, invoice(), 100);
    eprintln!("{} walks in {:?}, such as {}", texts.len(), started.elapsed(), texts[0]);
}

#[test]
fn an_enum_decodes_to_its_members_only() {
    let members = ["complaint", "praise", "<|im_end|>", "ünïcode", "a \"quoted\" one"];
    let texts = check_walks(json!({"enum": members}), 60);
    let said: BTreeSet<String> = texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert_eq!(said, members.map(String::from).into_iter().collect());
}

#[test]
fn the_end_is_allowed_only_where_the_answer_is_complete() {
    let (tokenizer, factory) = factory();
    let mut matcher = factory.compile(&Constraint::Regex("[ab]{2,3}".into())).unwrap();
    let a = tokenizer.byte_token(b'a').unwrap();
    let end = tokenizer.eos().unwrap();
    assert!(!matcher.allowed().unwrap().allows(end) && !matcher.is_accepting());
    assert_eq!(matcher.consume(&[end]), Err(GrammarError::NotAllowed { token: end }));
    matcher.consume(&[a, a]).unwrap();
    assert!(matcher.allowed().unwrap().allows(end) && matcher.is_accepting() && !matcher.is_stopped());
    let mut other = matcher.clone();
    other.consume(&[end]).unwrap();
    assert!(other.is_stopped() && other.failure().is_none());
    matcher.consume(&[a]).unwrap();
    assert!(matcher.is_stopped(), "nothing can follow the third");
    assert_eq!(matcher.allowed().unwrap().tokens().collect::<Vec<_>>(), tokenizer.end_ids());
}

#[test]
fn rollback_returns_to_the_same_mask() {
    let (tokenizer, factory) = factory();
    let mut matcher = factory.compile(&Constraint::JsonSchema(json!({"enum": ["hello", "help"]}))).unwrap();
    let ids = tokenizer.encode_text("\"hell");
    let before = matcher.allowed().unwrap();
    matcher.consume(&ids).unwrap();
    assert_ne!(matcher.allowed().unwrap(), before);
    matcher.rollback(ids.len()).unwrap();
    assert_eq!(matcher.allowed().unwrap(), before);
}

#[test]
fn a_token_that_is_not_allowed_leaves_the_matcher_where_it_was() {
    let (tokenizer, factory) = factory();
    let mut matcher = factory.compile(&Constraint::Regex("ab".into())).unwrap();
    let x = tokenizer.byte_token(b'x').unwrap();
    assert_eq!(matcher.consume(&[x]), Err(GrammarError::NotAllowed { token: x }));
    assert_eq!(matcher.consume(&[319]), Err(GrammarError::NotAllowed { token: 319 }));
    matcher.consume(&tokenizer.encode_text("ab")).unwrap();
    assert!(matcher.is_accepting());
}

#[test]
fn keywords_that_cannot_be_enforced_are_named() {
    let schema = json!({
        "type": "object",
        "properties": {
            "a": {"type": "array", "uniqueItems": true, "items": {"type": "string", "format": "color"}},
            "b": {"not": {"type": "string"}},
            "c": {"not": {"type": "integer"}},
        },
        "if": {"required": ["a"]},
    });
    check_refused(schema.clone(), "cannot be enforced while decoding: format: color, if, not, uniqueItems");
    let one_of = json!({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]});
    check_refused(one_of.clone(), "cannot be enforced while decoding: oneOf");
    let lenient = |schema| factory().1.compile_lenient(&Constraint::JsonSchema(schema)).unwrap().1;
    assert_eq!(lenient(schema), ["format: color", "if", "not", "uniqueItems"]);
    assert_eq!(lenient(one_of), ["oneOf"]);
    assert!(lenient(invoice()).is_empty());
}

#[test]
fn impossible_and_broken_constraints_are_errors() {
    check_refused(json!([]), "a schema is an object");
    check_refused(json!(false), "Unsatisfiable");
    check_refused(json!({"type": "integer", "minimum": 5, "maximum": 4}), "");
    check_refused(json!({"type": "strin"}), "Invalid type: strin");
    check_refused(json!({"$ref": "#/$defs/none"}), "none");
    check_refused(json!({"$ref": "https://example.com/x"}), "https://example.com/x");
    check_refused(json!({"type": "string", "pattern": "(?=a)b"}), "");
    let factory = factory().1;
    assert!(factory.compile(&Constraint::Regex("(".into())).is_err());
    assert!(factory.compile(&Constraint::Lark("start: nowhere".into())).is_err());
    assert!(matches!(factory.compile(&Constraint::None), Err(GrammarError::NoConstraint)));
}

#[test]
fn hostile_schemas_compile_or_are_refused_in_time() {
    let factory = factory().1;
    let many: Vec<Value> = (0..100_000).map(|i| json!(format!("member {i}"))).collect();
    let options: Vec<Value> = (0..50_000).map(|i| json!({"type": "object", "required": [format!("k{i}")]})).collect();
    let defs = |n: usize| {
        let link = |i: usize| json!({"allOf": [{"$ref": format!("#/$defs/d{}", (i + 1) % n)}]});
        json!({"$ref": "#/$defs/d0", "$defs": (0..n).map(|i| (format!("d{i}"), link(i))).collect::<serde_json::Map<_, _>>()})
    };
    for (name, schema) in [
        ("many members", json!({ "enum": many })),
        ("many options", json!({ "anyOf": options })),
        ("minItems", json!({"type": "array", "minItems": 1_000_000_000u64, "items": {"type": "integer"}})),
        ("maxItems", json!({"type": "array", "maxItems": 1_000_000_000u64, "items": {"type": "integer"}})),
        ("maxLength", json!({"type": "string", "maxLength": 1_000_000_000u64})),
        ("pattern", json!({"type": "string", "pattern": "(a+)+$"})),
        ("pattern classes", json!({"type": "string", "pattern": r"\p{L}{1000}{1000}"})),
        ("self", json!({"$ref": "#"})),
        ("cycle", defs(3)),
        ("long cycle", defs(990)),
        ("tree", json!({"$ref": "#/$defs/t", "$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}}})),
    ] {
        let started = std::time::Instant::now();
        let result = factory.compile(&Constraint::JsonSchema(schema)).map(drop);
        assert!(started.elapsed() < COMPILE_TIME_MAX * 10, "{name}: {:?}", started.elapsed());
        eprintln!("{name}: {:?} in {:?}", result.map_err(|e| e.to_string()), started.elapsed());
    }
}
