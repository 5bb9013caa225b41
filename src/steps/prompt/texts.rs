//! The prompts that come with the program. They live in `templates/prompts/`, so that tuning one is editing a file.
