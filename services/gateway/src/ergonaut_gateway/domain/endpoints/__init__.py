"""Endpoints: names whose requests go to versions of models by routes. `spec` says what one is, `records` what is kept of it,
`splitting` which way a request goes, `figures` what each way did."""
