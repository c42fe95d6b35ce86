// Reads an AsyncAPI document on standard input with the format's own parser; prints its errors as a JSON array of sentences.
const { Parser } = require("@asyncapi/parser");
const { readFileSync } = require("node:fs");

const ERROR = 0; // of 0 error, 1 warning, 2 information, 3 hint

new Parser().parse(readFileSync(0, "utf8")).then(({ diagnostics }) => {
  const errors = diagnostics.filter(({ severity }) => severity === ERROR);
  console.log(JSON.stringify(errors.map(({ path, message }) => `/${path.join("/")}: ${message}`)));
});
