use super::*;
use crate::steps::fakes::meeting;

fn check_tasks(turns: &[(&str, &str)], expected: &[(&str, &str, Option<&str>)]) {
    let found = Topic::Tasks.find(&meeting(turns));
    let got: Vec<(String, &str, Option<&str>)> =
        found.candidates.iter().map(|c| (c.people.join(","), c.core.as_str(), c.when.as_deref())).collect();
    let got: Vec<(&str, &str, Option<&str>)> = got.iter().map(|(p, c, w)| (p.as_str(), *c, *w)).collect();
    assert_eq!(got, expected);
}

#[test]
fn a_promise_is_a_task_of_the_one_who_makes_it() {
    check_tasks(
        &[("Beth", "I'll have the report with the graphs ready by next Friday."), ("Al", "Good.")],
        &[("Beth", "Have the report with the graphs ready by next Friday", Some("next Friday"))],
    );
    check_tasks(
        &[("Mehmet", "Das baue ich bis Mittwoch ein.")],
        &[("Mehmet", "Das baue ich bis Mittwoch ein", Some("Mittwoch"))],
    );
}

#[test]
fn a_task_offered_and_declined_is_none() {
    check_tasks(
        &[("Carys", "I could write the guide for the volunteers."), ("Ibrahim", "That's kind of you, Carys, but no.")],
        &[],
    );
    check_tasks(&[("Nadia", "Would you do the release notes this time?"), ("Beth", "I'd rather not, honestly.")], &[]);
    check_tasks(
        &[("Beth", "I'll bring snacks this afternoon."), ("Nadia", "Nobody's driving over anything, thank you.")],
        &[],
    );
}

#[test]
fn a_request_is_a_task_of_the_one_who_accepts_it() {
    check_tasks(&[("Helga", "Tom, could you read the contract first?"), ("Carys", "Lovely weather.")], &[]);
    check_tasks(
        &[("Helga", "Tom, could you read the Ombra contract first?"), ("Tom", "With the appendix, yes.")],
        &[("Tom", "Read the Ombra contract first", None)],
    );
}

#[test]
fn talk_that_only_sounds_like_a_task_is_none() {
    check_tasks(&[("Owen", "I'll mute, and I'll be honest, I'll say it was cold.")], &[]);
    check_tasks(&[("Tom", "I'll shout.")], &[]);
}

#[test]
fn that_is_decided_points_to_what_was_said_before_it() {
    let document =
        meeting(&[("Helga", "Timed entry for the glass exhibition only, members book free. That's decided.")]);
    let found = Topic::Decisions.find(&document);
    assert_eq!(found.candidates[0].said, "Timed entry for the glass exhibition only, members book free.");
}

#[test]
fn a_question_left_open_is_quoted_as_it_was_asked() {
    let document = meeting(&[
        ("Ann", "How many devices do we have for the pilot?"),
        ("Bo", "I can't see him."),
        ("Ann", "Then the number of devices stays open."),
    ]);
    let found = Topic::Questions.find(&document);
    assert_eq!(
        (found.candidates[0].said.as_str(), found.candidates[0].evidence.as_slice()),
        ("How many devices do we have for the pilot?", &[0, 2][..])
    );
}

fn check_language(language: &str, turns: &[(&str, &str)], tasks: &[&str], decisions: usize, questions: usize) {
    let mut document = meeting(turns);
    document.meta.insert("language".into(), language.into());
    let owners: Vec<String> = Topic::Tasks.find(&document).candidates.into_iter().map(|c| c.people.join(",")).collect();
    assert_eq!(owners, tasks, "{language}");
    let num = |topic: Topic| topic.find(&document).candidates.len();
    assert_eq!((num(Topic::Decisions), num(Topic::Questions)), (decisions, questions), "{language}");
}

#[test]
fn every_language_has_its_own_words() {
    check_language(
        "es",
        &[
            ("Ana", "Hemos decidido cambiar el proveedor de etiquetas en marzo."),
            ("Luis", "Enviaré el informe con los gráficos el viernes."),
            ("Ana", "Luis, ¿puedes revisar el contrato nuevo también?"),
            ("Luis", "No, prefiero no."),
            ("Ana", "El precio del quiosco queda pendiente."),
        ],
        &["Luis"],
        1,
        1,
    );
    check_language(
        "fr",
        &[
            ("Ana", "Nous avons décidé de changer le fournisseur en mars."),
            ("Luc", "Je vais préparer le rapport avec les graphiques."),
            ("Ana", "On ne sait pas combien coûte le kiosque."),
        ],
        &["Luc"],
        1,
        1,
    );
    check_language(
        "nl",
        &[
            ("Ana", "Kun je het contract met de bijlage lezen?"),
            ("Bo", "Ja, dat doe ik."),
            ("Ana", "We hebben besloten om in maart te stoppen."),
            ("Bo", "Dat blijft open, want de prijs kennen we nog niet."),
        ],
        &["Bo"],
        1,
        1,
    );
    check_language(
        "ja",
        &[
            ("田中", "古い追跡ページは三月三十一日に終わることにします。"),
            ("佐藤", "グラフ付きの報告書を金曜日までに準備します。"),
            ("田中", "キオスクの費用は未定です。"),
        ],
        &["佐藤"],
        1,
        1,
    );
    check_language(
        "zh",
        &[
            ("王", "我们决定三月底关闭旧的跟踪页面。"),
            ("李", "我来准备带图表的报告。"),
            ("王", "售货亭的费用还不知道。"),
        ],
        &["李"],
        1,
        1,
    );
}

#[test]
fn the_lists_of_every_language_can_be_read_and_name_all_three_things() {
    for language in LANGUAGES {
        let mut document = meeting(&[("A", "x")]);
        document.meta.insert("language".into(), (*language).into());
        let lists = lists(&document).unwrap();
        for cues in [&lists.tasks, &lists.decisions, &lists.questions] {
            assert!(!cues.own.is_empty(), "{language}");
        }
        assert!(!lists.tasks.accept.is_empty() && !lists.tasks.refuse.is_empty(), "{language}");
    }
}
