// WEBHOOK_SECRET=whsec_… PORT=5000 go run receiver.go
package main

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	tolerance = 300 * time.Second
	mostBytes = 1 << 20
)

// Event is what a webhook says. Data is empty where the endpoint gets thin payloads.
type Event struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Subject struct {
		Type     string `json:"type"`
		ID       string `json:"id"`
		Sequence int    `json:"sequence"`
	} `json:"subject"`
	Data json.RawMessage `json:"data"`
}

type key struct {
	version string
	fits    func(signature, signed []byte) bool
}

func keyOf(secret string) (key, error) {
	switch {
	case strings.HasPrefix(secret, "whsk_"):
		return key{}, errors.New("whsk_ is the sender's private key: give the endpoint's whpk_")
	case strings.HasPrefix(secret, "whpk_"):
		public, err := base64.StdEncoding.DecodeString(secret[len("whpk_"):])
		if err != nil || len(public) != ed25519.PublicKeySize {
			return key{}, errors.New("this is no public key")
		}
		return key{"v1a", func(signature, signed []byte) bool {
			return len(signature) == ed25519.SignatureSize && ed25519.Verify(public, signed, signature)
		}}, nil
	}
	shared, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(shared) < 24 {
		return key{}, errors.New("this is no secret: was it copied whole?")
	}
	return key{"v1", func(signature, signed []byte) bool {
		mac := hmac.New(sha256.New, shared)
		mac.Write(signed)
		return hmac.Equal(signature, mac.Sum(nil)) // in constant time
	}}, nil
}

var digits = regexp.MustCompile(`^[0-9]{1,12}$`)

// verify returns the event of a webhook. An error means that it is not from Patchbay, or not recent.
func verify(header http.Header, body []byte, keys []key, now time.Time) (*Event, error) {
	id, timestamp := header.Get("webhook-id"), header.Get("webhook-timestamp")
	signatures := header.Get("webhook-signature")
	if id == "" || timestamp == "" || signatures == "" {
		return nil, errors.New("a header of the signature is missing")
	}
	if !digits.MatchString(timestamp) {
		return nil, errors.New("the time is malformed")
	}
	seconds, _ := strconv.ParseInt(timestamp, 10, 64)
	if age := now.Truncate(time.Second).Sub(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return nil, errors.New("too old, or of the future")
	}
	signed := append([]byte(id+"."+timestamp+"."), body...)
	for i, each := range strings.Split(signatures, " ") {
		if i == 32 {
			break
		}
		version, text, _ := strings.Cut(each, ",")
		signature, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			continue
		}
		for _, key := range keys {
			if key.version != version || !key.fits(signature, signed) {
				continue
			}
			var event Event
			if !utf8.Valid(body) || json.Unmarshal(body, &event) != nil {
				return nil, errors.New("the body is not JSON")
			}
			return &event, nil
		}
	}
	return nil, errors.New("no signature fits")
}

func main() {
	var keys []key
	for _, secret := range strings.Split(os.Getenv("WEBHOOK_SECRET"), " ") {
		key, err := keyOf(secret)
		if err != nil {
			log.Fatalf("WEBHOOK_SECRET: %v", err)
		}
		keys = append(keys, key)
	}
	var seen sync.Map // for the example only: in production, store the event in a table with a unique id, and work from there

	receive := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostBytes))
		if err != nil {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		event, err := verify(r.Header, body, keys, time.Now())
		if err != nil {
			log.Printf("refused: %v", err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		id := r.Header.Get("webhook-id")
		if _, known := seen.LoadOrStore(id, true); !known {
			go fmt.Println(id, event.Type) // slow work does not delay the response
		}
		w.WriteHeader(http.StatusNoContent)
	}

	port := os.Getenv("PORT")
	if port == "" {
		port = "5000"
	}
	server := http.Server{
		Addr:              "127.0.0.1:" + port,
		Handler:           http.HandlerFunc(receive),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}
