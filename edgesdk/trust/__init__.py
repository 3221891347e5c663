"""Who may say what: TUF repository and client, DSSE statements, enrolment."""
