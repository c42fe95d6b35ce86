// The city's OpenID provider, as tests start it: real protocol, made-up people, and a login page that believes every password.
// The configuration comes in a file: {issuer, port, clients, jwks, algorithm, people}; `people` maps a login to the claims of its ID token.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { default: Provider } = await import(createRequire(`${process.env.NODE_PATH}/`).resolve("oidc-provider"));
const { issuer, port, clients, jwks, people, algorithm } = JSON.parse(readFileSync(process.argv[2], "utf-8"));

const provider = new Provider(issuer, {
  clients,
  jwks,
  cookies: { keys: ["only for tests"], long: { secure: false }, short: { secure: false } },
  // Claims stand in the ID token itself, as most providers of cities and companies do it.
  conformIdTokenClaims: false,
  claims: { openid: ["sub", "groups", "employee_id"], profile: ["name"], acr: null, auth_time: null, sid: null },
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
  findAccount: async (_context, sub) => ({ accountId: sub, claims: async () => ({ sub, ...people[sub] }) }),
  pkce: { required: () => true },
  enabledJWA: { idTokenSigningAlgValues: [algorithm] },
  acrValues: ["urn:city:mfa"],
  ttl: { AccessToken: 600, AuthorizationCode: 60, IdToken: 600, DeviceCode: 600, Grant: 3600, Interaction: 600, Session: 3600 },
});

provider.listen(port, "127.0.0.1", () => console.log("ready"));
