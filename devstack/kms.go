package devstack

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"

	"github.com/google/uuid"

	"vault-mcp/secret"
)

// The aliases of the demo keys of KMS.
const (
	AliasDemo       = "alias/demo"             // symmetric
	AliasOther      = "alias/demo-other"       // symmetric too
	AliasRSA        = "alias/demo-rsa"         // RSA 2048, signs
	AliasECC        = "alias/demo-ecc"         // NIST P-256, signs
	AliasRSAEncrypt = "alias/demo-rsa-encrypt" // RSA 2048, encrypts
)

// KMSAliases are all of them.
func KMSAliases() []string {
	return []string{AliasDemo, AliasOther, AliasRSA, AliasECC, AliasRSAEncrypt}
}

// What local-kms puts into the ARN of each key.
const (
	KMSRegion  = "eu-west-2"
	KMSAccount = "111122223333"
)

// rsaBits is the size of the RSA keys.
const rsaBits = 2048

// KMS is a local-kms: it answers as AWS KMS does, and takes any credentials.
type KMS struct {
	Endpoint string            // for AWS_KMS_ENDPOINT
	KeyIDs   map[string]string // by alias; new ones for each server

	server
	port int
	http *http.Client
}

// KMSOptions says how a local-kms is started. The zero KMSOptions will do.
type KMSOptions struct {
	Bin string       // the binary; empty: what FindLocalKMS finds
	Log func(string) // hears what takes long, such as a build; nil: nobody does
}

// StartKMS starts a local-kms with the demo keys on a free port. As with Start,
// the context bounds the start alone. It listens on all addresses of the machine,
// as it has no setting for that.
func StartKMS(ctx context.Context, opt KMSOptions) (*KMS, error) {
	bin := opt.Bin
	if bin == "" {
		var err error
		if bin, err = FindLocalKMS(ctx, opt.Log); err != nil {
			return nil, err
		}
	}
	return attempts(func() (*KMS, error) { return launchKMS(ctx, bin) })
}

func launchKMS(ctx context.Context, bin string) (_ *KMS, err error) {
	k := &KMS{KeyIDs: map[string]string{}}
	if err := k.settle(bin, ""); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			k.Stop()
		}
	}()
	if k.port, err = freePorts(""); err != nil {
		return nil, err
	}
	k.Endpoint = "http://" + loopback(k.port)
	k.http = &http.Client{Transport: &http.Transport{}, Timeout: requestTimeout} // no proxy from the environment
	seed, err := k.seed()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(k.path("seed.yaml"), seed, 0o600); err != nil {
		return nil, err
	}
	if err := k.run(ctx); err != nil {
		return nil, err
	}
	return k, nil
}

// run starts the process and waits until it can be used.
func (k *KMS) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := k.start(command{bin: k.bin, env: []string{
		"PATH=/usr/bin:/bin", "HOME=" + k.dir, "TMPDIR=" + k.dir, "PORT=" + strconv.Itoa(k.port),
		"KMS_REGION=" + KMSRegion, "KMS_ACCOUNT_ID=" + KMSAccount,
		"KMS_DATA_PATH=" + k.path("data"), "KMS_SEED_PATH=" + k.path("seed.yaml"),
	}})
	if err != nil {
		return err
	}
	// That it knows our random key ids proves that it is ours.
	return k.await(ctx, k.Log, func(ctx context.Context) error {
		for _, id := range k.KeyIDs {
			if err := k.Request(ctx, "DescribeKey", map[string]any{"KeyId": id}, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// seed makes the demo keys, as the file that local-kms reads at its start: YAML,
// of which JSON is a part.
func (k *KMS) seed() ([]byte, error) {
	metadata := func(alias, usage string) object {
		k.KeyIDs[alias] = uuid.NewString()
		return object{"KeyId": k.KeyIDs[alias], "KeyUsage": usage, "Description": "a demo key of vault-mcp"}
	}
	symmetric := func(alias string) object {
		return object{"Metadata": metadata(alias, "ENCRYPT_DECRYPT"), "BackingKeys": []string{secret.RandomHex(32)}}
	}
	private := func(alias, usage string, fresh func() (string, error)) (object, error) {
		text, err := fresh()
		return object{"Metadata": metadata(alias, usage), "PrivateKeyPem": text}, err
	}
	ecc, err1 := private(AliasECC, "SIGN_VERIFY", makeECC)
	signs, err2 := private(AliasRSA, "SIGN_VERIFY", makeRSA)
	encrypts, err3 := private(AliasRSAEncrypt, "ENCRYPT_DECRYPT", makeRSA)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	keys := object{
		"Symmetric":  object{"Aes": []object{symmetric(AliasDemo), symmetric(AliasOther)}},
		"Asymmetric": object{"Rsa": []object{signs, encrypts}, "Ecc": []object{ecc}},
	}
	var aliases []object
	for alias, id := range k.KeyIDs {
		aliases = append(aliases, object{"AliasName": alias, "TargetKeyId": id})
	}
	return json.Marshal(object{"Keys": keys, "Aliases": aliases})
}

// makeECC makes a key on P-256, as local-kms reads one: in SEC 1's form alone.
func makeECC() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalECPrivateKey(key)
	return pemText("EC PRIVATE KEY", der), err
}

// makeRSA makes an RSA key, which local-kms reads in PKCS 8's form alone.
func makeRSA() (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pemText("PRIVATE KEY", der), err
}

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// ARN is the full name of the key of an alias.
func (k *KMS) ARN(alias string) string {
	return "arn:aws:kms:" + KMSRegion + ":" + KMSAccount + ":key/" + k.KeyIDs[alias]
}

// KMSError is an answer of KMS other than success.
type KMSError struct {
	Operation string
	Status    int
	Type      string // such as NotFoundException
}

func (e *KMSError) Error() string {
	return fmt.Sprintf("%s: status %d: %s", e.Operation, e.Status, e.Type)
}

// Request does one operation, such as "Encrypt". The answer is decoded into out
// unless that is nil. An answer other than success is a *KMSError.
func (k *KMS) Request(ctx context.Context, operation string, body, out any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, k.Endpoint, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "TrentService."+operation)
	resp, err := k.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		var said struct {
			Type string `json:"__type"`
		}
		_ = json.Unmarshal(answer, &said) // the status alone will do
		return &KMSError{Operation: operation, Status: resp.StatusCode, Type: said.Type}
	}
	if out == nil || len(answer) == 0 {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// Kill ends the server at once, as kill -9 does. Restart finds its keys again.
func (k *KMS) Kill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.end((*process).kill)
	k.http.CloseIdleConnections()
}

// Restart starts the server again on its port with its keys, ending it first
// where it still runs.
func (k *KMS) Restart(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		return errors.New("the server was stopped for good")
	}
	k.end((*process).kill)
	k.http.CloseIdleConnections()
	if err := k.run(ctx); err != nil {
		k.end((*process).kill)
		return err
	}
	return nil
}

// Stop ends the server for good and removes its files. It may be called twice.
func (k *KMS) Stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopForGood((*process).kill) // it keeps nothing
	if k.http != nil {
		k.http.CloseIdleConnections()
	}
}

// Log is the end of what the server has printed since it was last started.
func (k *KMS) Log() string { return k.out.String() }
