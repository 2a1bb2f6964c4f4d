// Go's github.com/silenceper/wechat/v2. Its work/kf reads the XML form of the protocol; util has the
// cipher and the signature for any text. The JSON envelope is written and read here.
//
// tests/conformance/clients.rs says what is read and written.
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/util"
	"github.com/silenceper/wechat/v2/work/config"
	"github.com/silenceper/wechat/v2/work/kf"
)

const sdk = "github.com/silenceper/wechat/v2"

type account struct {
	Path           string
	Token          string
	EncodingAesKey string
	ReceiveID      string `json:"receiveId"`
}

type callback struct {
	Account int
	Method  string
	Message string
}

type probe struct {
	Name      string
	Account   int
	Timestamp string
	Nonce     string
	Encrypt   string
	Signature string
}

type work struct {
	URL       string
	Accounts  []account
	Callbacks []callback
	Probes    []probe
}

type answer struct {
	Status  int    `json:"status"`
	Message string `json:"message"`
	Error   string `json:"error,omitempty"`
}

func main() {
	var todo work
	if err := json.NewDecoder(os.Stdin).Decode(&todo); err != nil {
		panic(err)
	}
	answers := make([]answer, len(todo.Callbacks))
	indices := make(chan int)
	var senders sync.WaitGroup
	for sender := 0; sender < 4; sender++ {
		senders.Add(1)
		go func() {
			defer senders.Done()
			for index := range indices {
				callback := todo.Callbacks[index]
				answer, err := send(todo.URL, todo.Accounts[callback.Account], callback)
				if err != nil {
					answer.Error = err.Error()
				}
				answers[index] = answer
			}
		}()
	}
	for index := range todo.Callbacks {
		indices <- index
	}
	close(indices)
	senders.Wait()

	probes := make([]string, len(todo.Probes))
	for index, probe := range todo.Probes {
		probes[index] = take(todo.Accounts[probe.Account], probe)
	}
	result := map[string]any{"version": version(), "answers": answers, "probes": probes}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		panic(err)
	}
}

// send seals and sends a callback, and opens the reply.
func send(base string, to account, callback callback) (answer, error) {
	var answer answer
	random := make([]byte, 8)
	if _, err := rand.Read(random); err != nil {
		return answer, err
	}
	nonce := hex.EncodeToString(random)
	encrypted, err := util.EncryptMsg([]byte(nonce), []byte(callback.Message), to.ReceiveID, to.EncodingAesKey)
	if err != nil {
		return answer, err
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	query := url.Values{
		"msg_signature": {util.Signature(to.Token, timestamp, nonce, string(encrypted))},
		"timestamp":     {timestamp},
		"nonce":         {nonce},
	}
	var envelope []byte
	if callback.Method == "GET" {
		query.Set("echostr", string(encrypted))
	} else if envelope, err = json.Marshal(map[string]string{"tousername": to.ReceiveID, "encrypt": string(encrypted)}); err != nil {
		return answer, err
	}
	request, err := http.NewRequest(callback.Method, base+to.Path+"?"+query.Encode(), bytes.NewReader(envelope))
	if err != nil {
		return answer, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	answer.Status = response.StatusCode
	if err != nil || callback.Method == "GET" {
		answer.Message = string(body)
		return answer, err
	}
	var reply struct {
		Encrypt      string `json:"encrypt"`
		MsgSignature string `json:"msgsignature"`
		Timestamp    string `json:"timestamp"`
		Nonce        string `json:"nonce"`
	}
	strict := json.NewDecoder(bytes.NewReader(body))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&reply); err != nil {
		return answer, fmt.Errorf("%w: %s", err, body)
	}
	answer.Message, err = open(to, reply.MsgSignature, reply.Timestamp, reply.Nonce, reply.Encrypt)
	return answer, err
}

func client(of account) (*kf.Client, error) {
	return kf.NewClient(&config.Config{
		CorpID: of.ReceiveID, Token: of.Token, EncodingAESKey: of.EncodingAesKey,
		Cache: cache.NewMemory(), // the library insists on one
	})
}

// open has the library check signature and receive id and decrypt. Its VerifyURL is meant for the echo, but
// does the same for any message.
func open(by account, signature, timestamp, nonce, encrypt string) (string, error) {
	client, err := client(by)
	if err != nil {
		return "", err
	}
	return client.VerifyURL(kf.SignatureOptions{Signature: signature, TimeStamp: timestamp, Nonce: nonce, EchoStr: encrypt})
}

// take says whether the library takes a message that is wrong in one way.
func take(by account, probe probe) string {
	var err error
	if probe.Name == "unsigned" {
		err = openUnsigned(by, probe)
	} else {
		_, err = open(by, probe.Signature, probe.Timestamp, probe.Nonce, probe.Encrypt)
	}
	switch err {
	case nil:
		return "accepted"
	case kf.SDKValidateSignatureFailed:
		return "refused (SDKValidateSignatureFailed)"
	case kf.SDKDecryptMSGFailed:
		return "refused (SDKDecryptMSGFailed)"
	default:
		return fmt.Sprintf("refused (%T)", err)
	}
}

// openUnsigned hands an envelope to the library's reader of POSTs, which has no argument for a signature. The
// message in it is XML, since that is what it reads.
func openUnsigned(by account, probe probe) error {
	client, err := client(by)
	if err != nil {
		return err
	}
	const message = "<xml><MsgType>event</MsgType></xml>"
	encrypted, err := util.EncryptMsg([]byte("0123456789abcdef"), []byte(message), by.ReceiveID, by.EncodingAesKey)
	if err != nil {
		return err
	}
	read, err := client.GetCallbackMessage([]byte("<xml><Encrypt>" + string(encrypted) + "</Encrypt></xml>"))
	if err == nil && read.MsgType != "event" {
		return errors.New("nothing was read")
	}
	return err
}

func version() string {
	build, _ := debug.ReadBuildInfo()
	for _, dependency := range build.Deps {
		if dependency.Path == sdk {
			return dependency.Version
		}
	}
	return "unknown"
}
