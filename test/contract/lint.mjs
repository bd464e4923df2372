// Lints the contract with Redocly's engine: prints every error and warning, and fails if there is one.
import { createConfig, lint } from "@redocly/openapi-core";

const config = await createConfig({
  extends: ["recommended-strict"],
  rules: {
    // Of what needs no credential and takes no input; contract_test.go of apitest asks more of all others.
    "operation-4xx-response": "off",
    "no-invalid-schema-examples": "error",
    "no-invalid-parameter-examples": "error",
    "no-required-schema-properties-undefined": "error",
    "no-identical-paths": "error",
    "operation-singular-tag": "error",
    "operation-description": "error",
    "tag-description": "error",
  },
});
const problems = await lint({ ref: process.argv[2], config });
for (const { severity, ruleId, location, message } of problems) {
  console.log(`${severity} ${ruleId} at ${location[0].pointer}: ${message}`);
}
process.exitCode = problems.length > 0 ? 1 : 0;
