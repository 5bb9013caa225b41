//! `render`: a text from a template over what is known. No model.

use serde_json::Value;

use super::ask::render_with;
use super::options::Reader;
use super::prompt::Template;
use super::{BuildContext, OptionFault, Port, Step, StepContext, StepError, StepKind, StepOutput};
use crate::spec::{KeySpec, ValueSpec};

pub static KIND: StepKind = StepKind {
    name: "render",
    summary: "Fills a template with what earlier steps found",
    guide: "The template is minijinja, over `params`, `doc`, `steps` and `run`. A name that does not exist is an error; \
            a step that did not run is `none`. With `escape: html` what is put into the template is escaped, else nothing is; text from documents is never rendered as a \
            template. Filters beside the usual ones: `turns`, `timecode`, `table`, `bullets`, `json`, `quote`, `cell`, \
            `resolve_date`.",
    needs_model: false,
    keys: &[
        KeySpec::default(
            "escape",
            ValueSpec::Choice(&["none", "html"]),
            "none",
            "What is put into the template is made safe for HTML",
        ),
        KeySpec::required(
            "template",
            ValueSpec::OneOf(&[
                ValueSpec::Template,
                ValueSpec::Object(&[KeySpec::required(
                    "file",
                    ValueSpec::TemplateFile,
                    "A file that holds the template",
                )]),
            ]),
            "The template, or `{file: …}` with a path",
        ),
    ],
    outputs: &[Port { name: "", kind: "text", help: "The rendered text" }],
    example: "id: page\nuse: render\ntemplate: |\n  # {{ doc.stem }}\n  {{ doc.turns | length }} turns\n",
    build,
};

struct Render {
    template: Template,
}

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let is_html = read.text(&["escape"]) == Some("html");
    let template = read.template(&["template"]).map(|t| if is_html { t.escaped() } else { t });
    read.finish(template.map(|template| Box::new(Render { template }) as Box<dyn Step>))
}

impl Step for Render {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let text = render_with(cx, &self.template, &[])?;
        Ok(StepOutput { value: Value::String(text), ..StepOutput::default() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::steps::Reason;
    use crate::steps::fakes::{self, Fake, meeting};

    #[test]
    fn a_page_is_rendered_and_a_missing_name_fails_the_document() {
        let document = meeting(&[("Anna", "Hello {{ 7*7 }}.")]);
        let fake = Fake::answering(|_| String::new());
        let out = fakes::run(&KIND, json!({ "template": "{{ doc.turns | turns }}" }), &document, &fake).unwrap();
        assert_eq!(out.value, "[T1] Anna: Hello {{ 7*7 }}.");
        let error = fakes::run(&KIND, json!({ "template": "{{ doc.titel }}" }), &document, &fake).unwrap_err();
        assert_eq!(error.reason, Reason::TemplateFailed);
        assert!(error.detail.contains("doc.titel"), "{error}");
    }

    #[test]
    fn a_template_that_does_not_parse_is_the_authors_fault_with_its_key() {
        let faults = fakes::build(&KIND, json!({ "template": "{% if %}" })).err().unwrap();
        assert_eq!(faults[0].path, ["template"]);
        let faults = fakes::build(&KIND, json!({ "template": { "file": "x.j2" } })).err().unwrap();
        assert!(faults[0].message.contains("x.j2"));
    }
}
