"""Posts one message, for instance at the end of a CI job. Exits with 0 when it is in the room. Needs: pip install httpx

CHAT_URL=https://chat.example CHAT_TOKEN=chat_… CHAT_KEY=build-1234 python post.py build 1234 passed
Runs with the same CHAT_KEY and the same text post it once.
"""
import os
import secrets
import sys
import time

import httpx

url, token = os.environ.get('CHAT_URL'), os.environ.get('CHAT_TOKEN')
text = ' '.join(sys.argv[1:]) or os.environ.get('CHAT_TEXT')
if not (url and token and text):
    sys.exit('usage: CHAT_URL=… CHAT_TOKEN=… [CHAT_KEY=…] post.py TEXT')
key = os.environ.get('CHAT_KEY') or secrets.token_hex(16)
headers = {'Authorization': f'Bearer {token}', 'Idempotency-Key': key}

for wait in [1, 2, 4, 8, 0]:  # seconds until the next attempt
    try:
        response = httpx.post(f'{url}/api/messages', json={'text': text}, headers=headers)
        if response.is_success:
            print(f'posted as message {response.json()["id"]}')
            sys.exit()
        problem = response.text
        if response.status_code < 500 and response.status_code != 429:
            break
    except httpx.TransportError as error:
        problem = error
    time.sleep(wait)
sys.exit(f'not posted: {problem}')
