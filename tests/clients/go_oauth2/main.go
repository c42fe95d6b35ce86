// A client of others: gets a token by client_credentials (RFC 6749 section 4.4) as golang.org/x/oauth2 does, and calls the exchange.
// Input, JSON: {issuer, client_id, client_secret, scopes, path}; output: {status, body, token_type}.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"os"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func main() {
	var given struct {
		Issuer       string   `json:"issuer"`
		ClientID     string   `json:"client_id"`
		ClientSecret string   `json:"client_secret"`
		Scopes       []string `json:"scopes"`
		Path         string   `json:"path"`
	}
	check(json.NewDecoder(os.Stdin).Decode(&given))
	config := clientcredentials.Config{
		ClientID:     given.ClientID,
		ClientSecret: given.ClientSecret,
		TokenURL:     given.Issuer + "/oauth/token",
		Scopes:       given.Scopes,
		AuthStyle:    oauth2.AuthStyleAutoDetect,
	}
	ctx := context.Background()
	token, err := config.Token(ctx)
	check(err)
	answer, err := config.Client(ctx).Get(given.Issuer + given.Path)
	check(err)
	body, err := io.ReadAll(answer.Body)
	check(err)
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"status": answer.StatusCode, "body": json.RawMessage(body), "token_type": token.Type(),
	}))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
