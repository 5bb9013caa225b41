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

fn said(topic: Topic, turns: &[(&str, &str)]) -> Vec<String> {
    topic.find(&meeting(turns)).candidates.into_iter().map(|c| c.said).collect()
}

#[test]
fn what_changes_a_decision_is_one_and_the_same_day_said_again_is_none() {
    let turns = [
        ("Ann", "Then it's decided, six hundred windows, rush on the first lot."),
        ("Bo", "I can't feel my feet any more."),
        ("Ann", "It's still six hundred windows, but there's no rush any more."),
    ];
    let found = Topic::Decisions.find(&meeting(&turns)).candidates;
    assert_eq!(found.iter().map(|c| (c.turn, c.reverses)).collect::<Vec<_>>(), [(0, false), (2, true)]);

    let turns = [
        ("Ann", "We decided that the old page goes off on the thirty-first of March."),
        ("Bo", "Oh dear."),
        ("Ann", "The date stays, the thirty-first of March."),
    ];
    let found = Topic::Decisions.find(&meeting(&turns)).candidates;
    assert_eq!((found.len(), found[0].evidence.as_slice()), (1, &[0, 2][..]));
}

#[test]
fn a_task_that_changes_hands_and_a_parked_idea_are_no_decisions() {
    let turns = [
        ("Ann", "So the hotfix moves from Jo to you, out today."),
        ("Bo", "It's a good idea at a bad time."),
        ("Ann", "Parked, then."),
    ];
    assert_eq!(said(Topic::Decisions, &turns), Vec::<String>::new());
}

#[test]
fn what_one_can_do_is_a_task_where_it_names_a_day() {
    let turns = [
        ("Ann", "I can send you the report with the graphs by Friday."),
        ("Bo", "Hm."),
        ("Bo", "I can build a better website in an afternoon and complain for a week."),
        ("Ann", "Hm."),
    ];
    assert_eq!(said(Topic::Tasks, &turns), ["I can send you the report with the graphs by Friday."]);
}

#[test]
fn a_question_stays_open_unless_the_one_who_does_not_know_takes_it_on() {
    let turns = [
        ("Ann", "How low does the cash get in the summer?"),
        ("Bo", "I don't know from my head."),
        ("Ann", "Right."),
        ("Bo", "I'll rerun the cash forecast by Thursday."),
    ];
    assert_eq!(said(Topic::Questions, &turns), Vec::<String>::new());
    assert_eq!(said(Topic::Questions, &turns[..3]), ["How low does the cash get in the summer?"]);
}

#[test]
fn what_is_not_settled_is_the_question_that_says_most_and_no_rhetorical_one() {
    let turns = [
        ("Ann", "Do we tell Halvorsen that we're looking at somebody else?"),
        ("Bo", "I'd tell them."),
        ("Cy", "Hm. And if she hears it from somebody else?"),
        ("Ann", "I don't think we settle that today."),
    ];
    assert_eq!(said(Topic::Questions, &turns), ["Do we tell Halvorsen that we're looking at somebody else?"]);
    let turns = [
        ("Ann", "Is there anything about the kiosk at the harbor?"),
        ("Bo", "I don't know whether the kiosk is ours or the council's."),
        ("Ann", "We'll leave the kiosk, it's an open question."),
    ];
    assert_eq!(said(Topic::Questions, &turns), ["I don't know whether the kiosk is ours or the council's."]);
}
