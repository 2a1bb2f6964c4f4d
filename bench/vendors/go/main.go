// Command server is a vendor's own server for WeCom's callbacks, in Go: the crypto of
// github.com/silenceper/wechat and nothing else but Go's own HTTP. `make bench` measures it, behind Envoy,
// against the filter.
//
// Environment: PORT (of the loopback address), UPSTREAM (the URL that decides), WECOM_TOKEN,
// WECOM_ENCODING_AES_KEY, WECOM_RECEIVE_ID.
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/silenceper/wechat/v2/util"
)

var (
	upstream  = os.Getenv("UPSTREAM")
	token     = os.Getenv("WECOM_TOKEN")
	aesKey    = os.Getenv("WECOM_ENCODING_AES_KEY")
	receiveID = os.Getenv("WECOM_RECEIVE_ID")
	client    = &http.Client{Timeout: 900 * time.Millisecond, Transport: &http.Transport{MaxIdleConnsPerHost: 512}}
)

type verdict struct {
	Errcode uint32 `json:"errcode"`
	Errmsg  string `json:"errmsg"`
}

type reply struct {
	Encrypt      string `json:"encrypt"`
	MsgSignature string `json:"msgsignature"`
	Timestamp    string `json:"timestamp"`
	Nonce        string `json:"nonce"`
}

// decide asks the upstream to decide about a bind.
func decide(message []byte) (decided verdict, err error) {
	response, err := client.Post(upstream, "application/json", bytes.NewReader(message))
	if err != nil {
		return decided, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return decided, errors.New(response.Status)
	}
	return decided, json.NewDecoder(response.Body).Decode(&decided)
}

// seal encrypts and signs the reply.
func seal(decided verdict) (sealed reply, err error) {
	message, err := json.Marshal(decided)
	if err != nil {
		return sealed, err
	}
	random := make([]byte, 20)
	if _, err = rand.Read(random); err != nil {
		return sealed, err
	}
	encrypt, err := util.EncryptMsg(random[:16], message, receiveID, aesKey)
	if err != nil {
		return sealed, err
	}
	sealed.Encrypt = string(encrypt)
	sealed.Timestamp = strconv.FormatInt(time.Now().Unix(), 10)
	sealed.Nonce = strconv.FormatUint(uint64(binary.BigEndian.Uint32(random[16:]))+1_000_000_000, 10)
	sealed.MsgSignature = util.Signature(token, sealed.Timestamp, sealed.Nonce, sealed.Encrypt)
	return sealed, nil
}

func callback(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	var envelope struct {
		Encrypt string `json:"encrypt"`
	}
	if err := json.NewDecoder(r.Body).Decode(&envelope); err != nil {
		http.Error(w, "refused", http.StatusBadRequest)
		return
	}
	if util.Signature(token, query.Get("timestamp"), query.Get("nonce"), envelope.Encrypt) != query.Get("msg_signature") {
		http.Error(w, "refused", http.StatusForbidden)
		return
	}
	_, message, err := util.DecryptMsg(receiveID, envelope.Encrypt, aesKey)
	if err != nil {
		http.Error(w, "refused", http.StatusForbidden)
		return
	}
	var event struct {
		Event struct {
			EventType string `json:"event_type"`
		} `json:"event"`
	}
	if err := json.Unmarshal(message, &event); err != nil || event.Event.EventType != "bind" {
		http.Error(w, "refused", http.StatusServiceUnavailable)
		return
	}
	decided, err := decide(message)
	if err != nil {
		decided = verdict{7, "设备当前无法绑定，请稍后重试或联系设备厂商处理"}
	}
	sealed, err := seal(decided)
	if err != nil {
		http.Error(w, "refused", http.StatusServiceUnavailable)
		return
	}
	body, err := json.Marshal(sealed)
	if err != nil {
		http.Error(w, "refused", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("content-type", "application/json")
	_, _ = w.Write(body)
}

func main() {
	http.HandleFunc("POST /", callback)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
