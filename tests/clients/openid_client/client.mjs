// A client of others, by openid-client: registers itself (RFC 7591), proves itself by private_key_jwt, binds its tokens by DPoP (RFC 9449),
// asks for one contract (RFC 9396), reads its events, asks what its token says (RFC 7662) and gives it up (RFC 7009).
// Input, JSON: {step: "register", issuer, initial_access_token, key, scope} -> {client_id}
//          or {step: "read", issuer, client_id, key, contract} -> what came of each act.
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";

const oauth = await import(createRequire(`${process.env.NODE_PATH}/`).resolve("openid-client"));
const given = JSON.parse(await text(process.stdin));
const algorithm = { name: "ECDSA", namedCurve: "P-256" };
const key = await crypto.subtle.importKey("jwk", given.key, algorithm, false, ["sign"]);
const authentication = oauth.PrivateKeyJwt({ key, kid: given.key.kid });
const options = { algorithm: "oauth2", execute: [oauth.allowInsecureRequests] };
const issuer = new URL(given.issuer);

async function register() {
  const { kty, crv, x, y, kid } = given.key;
  const metadata = {
    client_name: "Planner by openid-client",
    token_endpoint_auth_method: "private_key_jwt",
    grant_types: ["client_credentials"],
    response_types: [],
    dpop_bound_access_tokens: true,
    scope: given.scope,
    jwks: { keys: [{ kty, crv, x, y, kid }] },
  };
  const registered = await oauth.dynamicClientRegistration(issuer, metadata, authentication, {
    ...options,
    initialAccessToken: given.initial_access_token,
  });
  return { client_id: registered.clientMetadata().client_id };
}

async function read() {
  const config = await oauth.discovery(issuer, given.client_id, { use_mtls_endpoint_aliases: false }, authentication, options);
  const pair = await oauth.randomDPoPKeyPair("ES256");
  const DPoP = oauth.getDPoPHandle(config, pair);
  const details = [{ type: "data_contract", contract: given.contract, actions: ["read"] }];
  const asked = { scope: "events:read", authorization_details: JSON.stringify(details) };
  const token = await oauth.clientCredentialsGrant(config, asked, { DPoP });
  const events = new URL(`/v1/contracts/${given.contract}/events`, issuer);
  const call = () => oauth.fetchProtectedResource(config, token.access_token, events, "GET", null, undefined, { DPoP });
  const answer = await call();
  const before = await oauth.tokenIntrospection(config, token.access_token);
  await oauth.tokenRevocation(config, token.access_token);
  const after = await oauth.tokenIntrospection(config, token.access_token);
  return {
    token_type: token.token_type,
    authorization_details: token.authorization_details,
    status: answer.status,
    events: await answer.json(),
    introspected: before,
    after_revocation: after,
    status_after_revocation: await call().then((late) => late.status, (error) => error.status ?? error.response?.status),
  };
}

process.stdout.write(JSON.stringify(await { register, read }[given.step]()));
