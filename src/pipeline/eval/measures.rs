//! What can be measured, by verb: the one table that `check`, `explain` and the report read, and the meaning of a name.

use crate::diagnostic::suggest;

/// A measure as an author may name it, behind the name of a step.
pub struct MeasureSpec {
    pub name: &'static str, // `<field>` stands for a field, `<k>` for a number
    pub verbs: &'static [&'static str],
    pub help: &'static str,
}

const RECORDS: &[&str] = &["extract", "generate", "set"];
const LABELS: &[&str] = &["classify"];
const TEXTS: &[&str] = &["summarize", "generate", "render", "answer"];
const ANSWERS: &[&str] = &["answer"];
const FOUND: &[&str] = &["retrieve", "rerank"];
const CITING: &[&str] = &["extract", "summarize", "answer", "generate"];

pub static MEASURES: &[MeasureSpec] = &[
    MeasureSpec {
        name: "f1",
        verbs: &["extract", "generate", "set", "classify"],
        help: "of the items of a list after the best matching, of the fields of one record, or of labels",
    },
    MeasureSpec {
        name: "precision",
        verbs: &["extract", "generate", "set", "classify"],
        help: "of the same, what was said and is right",
    },
    MeasureSpec {
        name: "recall",
        verbs: &["extract", "generate", "set", "classify"],
        help: "of the same, what was to be found and was",
    },
    MeasureSpec { name: "field_f1", verbs: RECORDS, help: "of all fields, those of items that have no pair included" },
    MeasureSpec { name: "field_precision", verbs: RECORDS, help: "of all fields, what was said and is right" },
    MeasureSpec { name: "field_recall", verbs: RECORDS, help: "of all fields, what was to be found and was" },
    MeasureSpec { name: "exact", verbs: RECORDS, help: "documents of which every field is right" },
    MeasureSpec {
        name: "<field>_accuracy",
        verbs: RECORDS,
        help: "of items that have a pair, those with this field right",
    },
    MeasureSpec { name: "<field>_f1", verbs: RECORDS, help: "of this field alone" },
    MeasureSpec { name: "accuracy", verbs: LABELS, help: "labels that are right; none is wrong where one is expected" },
    MeasureSpec { name: "macro_f1", verbs: LABELS, help: "the mean F1 of the labels, each counting alike" },
    MeasureSpec { name: "abstained", verbs: &["classify", "answer"], help: "documents without a label or an answer" },
    MeasureSpec {
        name: "ece",
        verbs: &["classify", "answer", "extract"],
        help: "expected calibration error of the probabilities, 15 bins; for an answer, of there being one",
    },
    MeasureSpec {
        name: "aurc",
        verbs: &["classify", "extract"],
        help: "area under risk against coverage: 0 where all mistakes are among the least sure",
    },
    MeasureSpec {
        name: "accuracy@<k>",
        verbs: &["classify", "extract"],
        help: "of the surest k % of the documents, or fields",
    },
    MeasureSpec { name: "rouge1", verbs: TEXTS, help: "ROUGE-1 F1, as rouge_score with its stemmer" },
    MeasureSpec { name: "rouge2", verbs: TEXTS, help: "ROUGE-2 F1" },
    MeasureSpec {
        name: "rougeLsum",
        verbs: TEXTS,
        help: "ROUGE-Lsum F1; a line, or a sentence of one line, is a sentence",
    },
    MeasureSpec { name: "coverage", verbs: &["summarize"], help: "how much of the documents was read" },
    MeasureSpec {
        name: "turns_precision",
        verbs: &["summarize"],
        help: "cited turns that are among the golden `turns`",
    },
    MeasureSpec { name: "turns_recall", verbs: &["summarize"], help: "golden `turns` that are cited" },
    MeasureSpec { name: "supported", verbs: ANSWERS, help: "sentences of the answers that a passage supports" },
    MeasureSpec { name: "refusal_f1", verbs: ANSWERS, help: "of refusing where golden says `unanswerable`" },
    MeasureSpec { name: "refusal_precision", verbs: ANSWERS, help: "refusals that are right" },
    MeasureSpec { name: "refusal_recall", verbs: ANSWERS, help: "unanswerable questions that are refused" },
    MeasureSpec {
        name: "token_f1",
        verbs: ANSWERS,
        help: "shared words of the answer and golden `answer`; the best of several",
    },
    MeasureSpec { name: "exact_match", verbs: ANSWERS, help: "answers that are golden's, case and white space aside" },
    MeasureSpec { name: "facts", verbs: ANSWERS, help: "golden `facts` that the answer holds" },
    MeasureSpec { name: "recall@<k>", verbs: FOUND, help: "golden `source` files among the first k hits" },
    MeasureSpec { name: "mrr", verbs: FOUND, help: "the mean reciprocal rank of the first golden `source`" },
    MeasureSpec { name: "citations_valid", verbs: CITING, help: "cited turns and quotes that are in the source" },
    MeasureSpec {
        name: "citations_support",
        verbs: CITING,
        help: "claims half of whose words, or more, are in what they cite; without a citation, none are",
    },
];

/// Stands in the place of a step: the citations of all of them.
pub const ALL_CITATIONS: &str = "citations";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    F1,
    Precision,
    Recall,
    FieldF1,
    FieldPrecision,
    FieldRecall,
    Exact,
    AccuracyOf(String),
    F1Of(String),
    Accuracy,
    MacroF1,
    Abstained,
    CalibrationError,
    RiskArea,
    AccuracyAt(u32),
    Rouge(u8), // 1, 2, or 0 for Lsum
    Coverage,
    TurnsPrecision,
    TurnsRecall,
    Supported,
    RefusalF1,
    RefusalPrecision,
    RefusalRecall,
    TokenF1,
    ExactMatch,
    Facts,
    RecallAt(u32),
    ReciprocalRank,
    CitationsValid,
    CitationsSupport,
}

impl Kind {
    /// Whether less of it is better.
    pub fn is_cost(&self) -> bool {
        matches!(self, Self::CalibrationError | Self::RiskArea | Self::Abstained)
    }
}

/// One thing that is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    pub name: String, // `actions.f1`
    pub steps: Vec<String>,
    pub kind: Kind,
}

/// Why a name means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    pub message: String,
    pub hint: Option<String>,
}

/// Returns what `step.measure` means, of these steps: id, verb.
pub fn parse(name: &str, steps: &[(String, &'static str)]) -> Result<Measure, Unknown> {
    let unknown = |message: String, hint: Option<String>| Unknown { message, hint };
    let Some((step, measure)) = name.split_once('.') else {
        let hint = Some("write the step and the measure: actions.f1".into());
        return Err(unknown(format!("`{name}` names no measure of a step"), hint));
    };
    let Some((id, verb)) = steps.iter().find(|(id, _)| id == step) else {
        let kind = match measure {
            "valid" => Some(Kind::CitationsValid),
            "support" => Some(Kind::CitationsSupport),
            _ => None,
        };
        if let (ALL_CITATIONS, Some(kind)) = (step, &kind) {
            let citing = steps.iter().filter(|(_, verb)| CITING.contains(verb)).map(|(id, _)| id.clone()).collect();
            return Ok(Measure { name: name.to_owned(), steps: citing, kind: kind.clone() });
        }
        let known = steps.iter().map(|(id, _)| id.as_str()).chain([ALL_CITATIONS]);
        let hint = match suggest(step, known.clone()) {
            Some(ALL_CITATIONS) => "`citations.valid` and `citations.support` are of all steps".into(),
            Some(near) => format!("did you mean `{near}.{measure}`?"),
            None => format!("known steps: {}", known.collect::<Vec<_>>().join(", ")),
        };
        return Err(unknown(format!("`{name}`: there is no step `{step}`"), Some(hint)));
    };
    match kind(measure, verb) {
        Some(kind) => Ok(Measure { name: name.to_owned(), steps: vec![id.clone()], kind }),
        None => {
            let of_verb = || MEASURES.iter().filter(|m| m.verbs.contains(verb)).map(|m| m.name);
            let hint = match suggest(measure, of_verb()) {
                Some(near) => format!("did you mean `{step}.{near}`?"),
                None if of_verb().next().is_none() => "nothing is measured of this verb".into(),
                None => format!("of `{verb}` can be measured: {}", of_verb().collect::<Vec<_>>().join(", ")),
            };
            Err(unknown(format!("`{name}`: `{measure}` is no measure of `{verb}`"), Some(hint)))
        }
    }
}

fn kind(measure: &str, verb: &str) -> Option<Kind> {
    let is_known = |name: &str| MEASURES.iter().any(|m| m.name == name && m.verbs.contains(&verb));
    let exact = match measure {
        "f1" => Some(Kind::F1),
        "precision" => Some(Kind::Precision),
        "recall" => Some(Kind::Recall),
        "field_f1" => Some(Kind::FieldF1),
        "field_precision" => Some(Kind::FieldPrecision),
        "field_recall" => Some(Kind::FieldRecall),
        "exact" => Some(Kind::Exact),
        "accuracy" => Some(Kind::Accuracy),
        "macro_f1" => Some(Kind::MacroF1),
        "abstained" => Some(Kind::Abstained),
        "ece" => Some(Kind::CalibrationError),
        "aurc" => Some(Kind::RiskArea),
        "rouge1" => Some(Kind::Rouge(1)),
        "rouge2" => Some(Kind::Rouge(2)),
        "rougeLsum" => Some(Kind::Rouge(0)),
        "coverage" => Some(Kind::Coverage),
        "turns_precision" => Some(Kind::TurnsPrecision),
        "turns_recall" => Some(Kind::TurnsRecall),
        "supported" => Some(Kind::Supported),
        "refusal_f1" => Some(Kind::RefusalF1),
        "refusal_precision" => Some(Kind::RefusalPrecision),
        "refusal_recall" => Some(Kind::RefusalRecall),
        "token_f1" => Some(Kind::TokenF1),
        "exact_match" => Some(Kind::ExactMatch),
        "facts" => Some(Kind::Facts),
        "mrr" => Some(Kind::ReciprocalRank),
        "citations_valid" => Some(Kind::CitationsValid),
        "citations_support" => Some(Kind::CitationsSupport),
        _ => None,
    };
    if let Some(exact) = exact.filter(|_| is_known(measure)) {
        return Some(exact);
    }
    if let Some((base, number)) = measure.split_once('@') {
        let number = number.parse::<u32>().ok().filter(|n| (1..=1000).contains(n))?;
        return match base {
            "recall" if is_known("recall@<k>") => Some(Kind::RecallAt(number)),
            "accuracy" if is_known("accuracy@<k>") && number <= 100 => Some(Kind::AccuracyAt(number)),
            _ => None,
        };
    }
    let field = |ending: &str| measure.strip_suffix(ending).filter(|f| !f.is_empty()).map(str::to_owned);
    if let Some(field) = field("_accuracy").filter(|_| is_known("<field>_accuracy")) {
        return Some(Kind::AccuracyOf(field));
    }
    field("_f1").filter(|_| is_known("<field>_f1")).map(Kind::F1Of)
}

/// What a measure must be.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    pub measure: String,
    pub condition: String, // as written
    pub than: Than,
    pub bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Than {
    AtLeast,
    Above,
    AtMost,
    Below,
    Equal,
}

impl Gate {
    /// Reads `>= 0.60`, `< 5 %`.
    pub fn parse(measure: &str, condition: &str) -> Option<Self> {
        let text = condition.trim();
        let (than, rest) =
            [(">=", Than::AtLeast), ("<=", Than::AtMost), ("==", Than::Equal), (">", Than::Above), ("<", Than::Below)]
                .into_iter()
                .find_map(|(word, than)| Some((than, text.strip_prefix(word)?)))?;
        let (number, scale) = match rest.trim().strip_suffix('%') {
            Some(number) => (number, 0.01),
            None => (rest, 1.0),
        };
        let bound = number.trim().parse::<f64>().ok().filter(|n| n.is_finite())? * scale;
        Some(Self { measure: measure.to_owned(), condition: text.to_owned(), than, bound })
    }

    pub fn holds(&self, value: f64) -> bool {
        match self.than {
            Than::AtLeast => value >= self.bound,
            Than::Above => value > self.bound,
            Than::AtMost => value <= self.bound,
            Than::Below => value < self.bound,
            Than::Equal => value == self.bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> Vec<(String, &'static str)> {
        [("actions", "extract"), ("kind", "classify"), ("found", "retrieve"), ("reply", "answer"), ("s", "summarize")]
            .map(|(id, verb)| (id.to_owned(), verb))
            .to_vec()
    }

    #[test]
    fn measures_are_named_by_step() {
        let kind = |name: &str| parse(name, &steps()).map(|m| m.kind).unwrap();
        assert_eq!(kind("actions.f1"), Kind::F1);
        assert_eq!(kind("actions.owner_accuracy"), Kind::AccuracyOf("owner".into()));
        assert_eq!(kind("actions.due_date_f1"), Kind::F1Of("due_date".into()));
        assert_eq!(kind("actions.field_f1"), Kind::FieldF1);
        assert_eq!(kind("found.recall@6"), Kind::RecallAt(6));
        assert_eq!(kind("kind.accuracy@50"), Kind::AccuracyAt(50));
        assert_eq!(kind("reply.refusal_f1"), Kind::RefusalF1);
        assert_eq!(parse("citations.support", &steps()).unwrap().steps, ["actions", "reply", "s"]);
    }

    #[test]
    fn what_means_nothing_says_what_would() {
        let hint = |name: &str| parse(name, &steps()).unwrap_err().hint.unwrap();
        assert_eq!(hint("kind.acuracy"), "did you mean `kind.accuracy`?");
        assert_eq!(hint("action.f1"), "did you mean `actions.f1`?");
        assert_eq!(hint("s.rougeLsun"), "did you mean `s.rougeLsum`?");
        assert!(hint("s.zzz").contains("rouge1") && hint("f1").contains("actions.f1"));
        assert!(parse("found.recall@0", &steps()).is_err() && parse("kind.accuracy@200", &steps()).is_err());
    }

    /// The table and the meaning of its names are one.
    #[test]
    fn every_name_of_the_table_means_something() {
        for spec in MEASURES {
            for verb in spec.verbs {
                let name = spec.name.replace("<field>", "owner").replace("<k>", "10");
                assert!(kind(&name, verb).is_some(), "{name} of {verb}");
            }
        }
    }

    #[test]
    fn gates_are_comparisons() {
        let gate = |text: &str| Gate::parse("a.f1", text);
        assert!(gate(">= 0.60").unwrap().holds(0.6) && !gate("> 0.6").unwrap().holds(0.6));
        assert!(gate("<= 5 %").unwrap().holds(0.05) && !gate("<0.05").unwrap().holds(0.05));
        assert_eq!((gate("0.6"), gate(">= x"), gate(">= inf")), (None, None, None));
    }
}
